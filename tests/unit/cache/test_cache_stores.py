"""What every store of answers does: in memory, in a file of SQLite, and in a real Redis."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest
import redis

from gateway.cache import StoreFailed

KEY, OTHER = b"k" * 32, b"o" * 32
MIB = 1 << 20


@pytest.fixture(params=["memory", "sqlite", "redis"])
def store(request, open_store):
    kind = request.param
    return open_store(request.getfixturevalue("start_redis")()[0] if kind == "redis" else kind)


async def test_what_was_put_last_is_what_is_there(store):
    found = [await store.get(KEY)]
    for value in (b"one", b"\0\xff two"):
        await store.put(KEY, value)
        found.append(await store.get(KEY))

    assert (found, await store.get(OTHER)) == ([None, b"one", b"\0\xff two"], None)


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_an_answer_is_forgotten_when_its_time_is_up(open_store, clock, kind):
    store = open_store(kind, ttl_s=60.0)
    await store.put(KEY, b"one")
    clock.now += 59.9
    before = await store.get(KEY)
    clock.now += 0.1

    assert (before, await store.get(KEY)) == (b"one", None)


async def test_redis_is_told_how_long_to_keep_an_answer(open_store, start_redis):
    store = open_store(start_redis()[0], ttl_s=60.0)
    await store.put(KEY, b"one")

    assert 0 < await store._redis.pttl(f"vision-gateway:cache:{KEY.hex()}") <= 60_000


async def test_of_a_full_memory_goes_what_was_not_used_for_longest(open_store):
    store = open_store("memory", max_bytes=3000)
    for name in b"abc":
        await store.put(bytes([name]), bytes(500))
    await store.get(b"a")
    await store.put(b"d", bytes(500))

    assert [await store.get(bytes([name])) is not None for name in b"abcd"] == [True, False, True, True]


async def test_memory_holds_no_more_than_it_may(open_store):
    store = open_store("memory", max_bytes=10_000)
    for number in range(100):
        await store.put(bytes([number]), bytes(number * 10))
        assert store._bytes <= 10_000
    await store.put(KEY, bytes(20_000))

    assert (await store.get(KEY), store._bytes, len(store._kept)) == (None, 0, 0)


async def test_a_full_file_lets_the_oldest_answers_go_and_grows_no_further(open_store, clock, tmp_path):
    store = open_store("sqlite", max_bytes=MIB)
    for number in range(300):
        clock.now += 1
        store._ttl_s = 10_000
        await store.put(number.to_bytes(32), bytes(10_000))
    kept = [number for number in range(300) if await store.get(number.to_bytes(32)) is not None]

    assert kept == list(range(kept[0], 300))
    assert 80 <= len(kept) <= 105
    assert (tmp_path / "state" / "cache.db").stat().st_size < 2 * MIB


async def test_what_expired_makes_room_in_a_file(open_store, clock, tmp_path):
    store = open_store("sqlite", ttl_s=10.0)
    await store.put(KEY, b"one")
    clock.now += 10
    await store.put(OTHER, b"two")

    with closing(sqlite3.connect(tmp_path / "state" / "cache.db")) as connection:
        assert connection.execute("SELECT key FROM answers").fetchall() == [(OTHER,)]


async def test_a_file_is_for_its_owner_s_eyes_alone(open_store, tmp_path):
    await open_store("sqlite").put(KEY, b"one")

    files = {each.name: each.stat().st_mode & 0o777 for each in (tmp_path / "state").iterdir()}
    assert files == dict.fromkeys(("cache.db", "cache.db-wal", "cache.db-shm"), 0o600)


async def test_gateways_on_one_machine_share_a_file(open_store):
    one, other = open_store("sqlite"), open_store("sqlite")
    await one.put(KEY, b"one")

    assert await other.get(KEY) == b"one"


async def test_a_file_that_is_no_database_fails_and_says_nothing_of_it(open_store, tmp_path):
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "cache.db").write_bytes(b"no database" * 1000)

    with pytest.raises(StoreFailed, match=r"^the SQLite store of the cache failed$"):
        await open_store("sqlite").get(KEY)


async def test_a_dead_redis_fails(open_store, start_redis):
    url, process = start_redis()
    store = open_store(url)
    await store.put(KEY, b"one")
    process.kill()
    process.wait()

    with pytest.raises(StoreFailed):
        await store.get(KEY)


async def test_a_redis_that_closed_an_idle_connection_is_asked_again(open_store, start_redis):
    url, _ = start_redis()
    store = open_store(url)
    await store.put(KEY, b"one")
    with redis.Redis.from_url(url) as other:
        killed = other.client_kill_filter(_type="normal", skipme=True)

    assert (killed, await store.get(KEY)) == (1, b"one")
