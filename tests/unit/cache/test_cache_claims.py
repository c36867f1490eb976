"""Who asks, of several processes that share a store: in a file of SQLite, and in a real Redis."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from dataclasses import replace

import pytest
import redis
from redis.crc import key_slot

from gateway.cache import LEASE_S, Claim, Claimed
from gateway.cache.redis import RedisStore, _names

MINE, ANOTHERS = Claimed.MINE, Claimed.ANOTHERS
KEY = b"k" * 32
ONE, OTHER, THIRD = (Claim(KEY, "standard", holder) for holder in ("one", "other", "third"))
CLAIM = _names(ONE)[1]


@pytest.fixture(params=["sqlite", "redis"])
def stores(request, open_store):
    """Two that share what they keep, as two processes do."""
    where = request.getfixturevalue("start_redis")()[0] if request.param == "redis" else request.param
    return [open_store(where) for _ in range(2)]


@pytest.fixture
def forget():
    """Has the answer forgotten, and nothing else."""

    async def forgotten(store):
        if isinstance(store, RedisStore):
            await store._redis.delete(_names(ONE)[0])
        else:
            await store._run(lambda: store._connection.execute("DELETE FROM answers"))

    return forgotten


@pytest.fixture
def in_redis(start_redis, open_store):
    """A store, and a client of its server."""
    url, _ = start_redis()
    with redis.Redis.from_url(url) as client:
        yield open_store(url), client


async def test_of_two_who_look_at_once_one_may_ask(stores):
    ends = []
    for number in range(30):
        claims = [replace(claim, key=bytes([number])) for claim in (ONE, OTHER)]
        looks = [store.get_or_claim(claim) for store, claim in zip(stores, claims, strict=True)]
        ends.append(set(await asyncio.gather(*looks)))

    assert ends == [{MINE, ANOTHERS}] * 30


async def test_a_claim_stands_until_its_holder_lets_go(stores):
    one, other = stores
    first = await one.get_or_claim(ONE)
    await other.release(OTHER)
    before = await other.get_or_claim(OTHER)
    await one.release(ONE)

    assert (first, before, await other.get_or_claim(OTHER)) == (MINE, ANOTHERS, MINE)


async def test_who_holds_it_holds_it_still_when_looking_again(stores):
    one, other = stores

    assert [await one.get_or_claim(ONE) for _ in range(3)] == [MINE] * 3
    assert await other.get_or_claim(OTHER) is ANOTHERS


async def test_what_is_kept_is_found_whoever_asks_anew(stores):
    one, other = stores
    await one.get_or_claim(ONE)
    await one.put(KEY, b"answer", ONE)

    assert [await each.get_or_claim(claim) for each, claim in ((one, ONE), (other, OTHER))] == [b"answer"] * 2


@pytest.mark.parametrize("different", [{"key": b"o" * 32}, {"kind": "flex"}], ids=str)
async def test_other_calls_are_claimed_by_themselves(stores, different):
    one, other = stores
    await one.get_or_claim(ONE)

    assert await other.get_or_claim(replace(OTHER, **different)) is MINE


async def test_a_claim_goes_with_its_holder_s_answer(stores, forget):
    one, other = stores
    await one.get_or_claim(ONE)
    await one.put(KEY, b"answer", ONE)
    await forget(one)

    assert await other.get_or_claim(OTHER) is MINE


async def test_an_answer_that_comes_late_leaves_another_s_claim_alone(stores, forget):
    one, other = stores
    await other.get_or_claim(OTHER)
    await one.put(KEY, b"late", ONE)
    await forget(one)

    assert await one.get_or_claim(THIRD) is ANOTHERS


async def test_in_a_file_a_claim_lapses_unless_it_is_renewed(open_store, clock):
    store = open_store("sqlite")
    await store.get_or_claim(ONE)
    clock.now += LEASE_S - 0.1
    await store.get_or_claim(ONE)
    clock.now += LEASE_S - 0.1
    before = await store.get_or_claim(OTHER)
    clock.now += 0.1

    assert (before, await store.get_or_claim(OTHER), await store.get_or_claim(ONE)) == (ANOTHERS, MINE, ANOTHERS)


async def test_redis_is_told_when_a_claim_lapses_each_time_it_is_renewed(in_redis):
    store, client = in_redis
    left = []
    for _ in range(2):
        await store.get_or_claim(ONE)
        left.append(client.pttl(CLAIM))
        client.pexpire(CLAIM, 1000)

    assert all(1000 < each <= LEASE_S * 1000 for each in left)


async def test_a_cluster_keeps_answer_and_claim_together():
    assert len({key_slot(name.encode()) for name in _names(ONE)}) == 1


async def test_a_redis_that_forgot_the_scripts_is_told_them_again(in_redis):
    store, client = in_redis
    await store.get_or_claim(ONE)
    client.script_flush()

    assert await store.get_or_claim(OTHER) is ANOTHERS


async def test_a_redis_without_room_gives_what_it_has_and_has_no_claims(in_redis):
    store, client = in_redis
    await store.put(KEY, b"answer")
    client.config_set("maxmemory", 1)

    found = [await store.get_or_claim(replace(OTHER, key=key)) for key in (KEY, b"o" * 32)]

    assert found == [b"answer", None]


async def test_a_file_that_cannot_be_written_gives_what_it_has_and_has_no_claims(open_store):
    store = open_store("sqlite")
    await store.put(KEY, b"answer")
    await store._run(lambda: store._connection.execute("PRAGMA query_only = ON"))

    found = [await store.get_or_claim(replace(OTHER, key=key)) for key in (KEY, b"o" * 32)]

    assert found == [b"answer", None]


async def test_while_somebody_writes_to_the_file_others_find_answers_and_claims(open_store, tmp_path):
    store = open_store("sqlite")
    await store.put(b"o" * 32, b"answer")
    await store.get_or_claim(ONE)
    with closing(sqlite3.connect(tmp_path / "state" / "cache.db", isolation_level=None)) as writing:
        writing.execute("BEGIN IMMEDIATE")

        found = [await store.get_or_claim(replace(OTHER, key=key)) for key in (b"o" * 32, KEY)]

    assert found == [b"answer", ANOTHERS]


async def test_of_two_who_found_nothing_in_a_file_the_second_one_to_claim_is_told_of_the_first(
    open_store, tmp_path, clock, monkeypatch
):
    store, looks = open_store("sqlite"), []
    look = store._look

    def looked(connection, claim):
        found = look(connection, claim)
        if not looks:
            # Between this look and the claim that follows.
            with closing(sqlite3.connect(tmp_path / "state" / "cache.db")) as other, other:
                other.execute("INSERT INTO claims VALUES (?, ?, 'other', ?)", (KEY, ONE.kind, clock() + LEASE_S))
        looks.append(found)
        return found

    monkeypatch.setattr(store, "_look", looked)

    assert (await store.get_or_claim(ONE), looks) == (ANOTHERS, [None, ANOTHERS])


async def test_in_memory_nothing_is_claimed(open_store):
    store = open_store("memory")
    before = [await store.get_or_claim(claim) for claim in (ONE, OTHER)]
    await store.put(KEY, b"answer", ONE)

    assert (before, await store.get_or_claim(OTHER)) == ([None, None], b"answer")
