"""How long a claim is held for a turn, in virtual time, with a stand-in for a store that claims."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from gateway.cache import LEASE_S, Claim, Claimed, StoreFailed
from gateway.cache.behind import WriteBehind

KEY = b"key"
CLAIM = Claim(KEY, "standard", "one")


class Claiming:
    """Stands in for a store: writes down what it is told and when, and is as slow as the test says."""

    def __init__(self):
        self.told = []
        self.found = Claimed.MINE
        self.takes_s = 0.0

    async def get_or_claim(self, claim):
        await self._do("claim")
        return self.found

    async def put(self, key, value, claim):
        await self._do("put with claim" if claim == CLAIM else "put")

    async def release(self, claim):
        await self._do("release")

    async def aclose(self):
        await self._do("close")

    async def _do(self, what):
        self.told.append((round(asyncio.get_running_loop().time(), 3), what))
        await asyncio.sleep(self.takes_s)
        if isinstance(self.found, StoreFailed):
            raise self.found


@pytest.fixture
def inner():
    return Claiming()


@pytest.fixture
def store(inner, virtual_clock):
    return WriteBehind(inner, clock=virtual_clock, patience_s=0.25, pause_s=5.0)


def nothing():
    """What is done when an answer is lost, where nobody looks."""


def test_a_claim_is_renewed_until_its_turn_ends_and_let_go_of_then(store, inner, virtual_time):
    async def held():
        turn = await store.get_or_claim(CLAIM)
        await asyncio.sleep(2.5)
        turn.end()
        await store.aclose()

    virtual_time.run(held())

    assert inner.told == [(0, "claim"), (1, "claim"), (2, "claim"), (2.5, "release"), (2.5, "close")]


def test_a_claim_is_renewed_five_times_within_its_lease(store, inner, virtual_time):
    async def held():
        turn = await store.get_or_claim(CLAIM)
        await asyncio.sleep(LEASE_S)
        turn.end()
        await store.aclose()

    virtual_time.run(held())

    assert [what for _, what in inner.told].count("claim") == 5


def test_a_turn_that_ends_while_it_is_renewed_is_let_go_of(store, inner, virtual_time):
    async def held():
        turn = await store.get_or_claim(CLAIM)
        inner.takes_s = 0.2
        await asyncio.sleep(1.1)
        turn.end()
        await store.aclose()

    virtual_time.run(held())

    assert inner.told == [(0, "claim"), (1, "claim"), (1.2, "release"), (1.4, "close")]


def test_an_answer_takes_the_claim_along(store, inner, virtual_time):
    async def answered():
        turn = await store.get_or_claim(CLAIM)
        store.put(KEY, b"answer", lost=nothing, turn=turn)
        turn.end()
        await store.aclose()

    virtual_time.run(answered())

    assert inner.told == [(0, "claim"), (0, "put with claim"), (0, "close")]


def test_what_is_still_being_written_is_found_by_who_would_ask(store, inner, virtual_time):
    async def looked():
        store.put(KEY, b"answer", lost=nothing)
        found = await store.get_or_claim(CLAIM)
        await store.aclose()
        return found

    assert (virtual_time.run(looked()), inner.told) == (b"answer", [(0, "put"), (0, "close")])


# The second one is out of patience, and the store let alone meanwhile.
@pytest.mark.parametrize(("goes_at_s", "granted_at_s"), [(0.1, 0.2), (0.25, 6.0)])
def test_a_claim_that_is_granted_to_somebody_who_went_is_let_go_of(store, inner, virtual_time, goes_at_s, granted_at_s):
    async def gone():
        inner.takes_s = granted_at_s
        look = asyncio.create_task(store.get_or_claim(CLAIM))
        await asyncio.sleep(goes_at_s)
        look.cancel()
        await asyncio.wait({look})
        inner.takes_s = 0
        await store.aclose()

    virtual_time.run(gone())

    assert inner.told == [(0, "claim"), (granted_at_s, "release"), (granted_at_s, "close")]


def test_a_store_that_is_down_is_told_nothing_of_claims(store, inner, virtual_time):
    async def held():
        turn = await store.get_or_claim(CLAIM)
        inner.found = StoreFailed("down")
        await asyncio.sleep(0.5)
        with suppress(StoreFailed):
            await store.get_or_claim(CLAIM)
        await asyncio.sleep(3)
        turn.end()
        inner.found = None
        await store.aclose()

    virtual_time.run(held())

    assert inner.told == [(0, "claim"), (0.5, "claim"), (3.5, "close")]


def test_a_claim_that_cannot_be_renewed_ends_nothing(store, inner, virtual_time):
    async def held():
        turn = await store.get_or_claim(CLAIM)
        inner.found = StoreFailed("down")
        await asyncio.sleep(1.5)
        inner.found = Claimed.MINE
        await asyncio.sleep(1)
        turn.end()
        await store.aclose()

    virtual_time.run(held())

    assert [at for at, what in inner.told if what == "claim"] == [0, 1, 2]


@pytest.mark.parametrize("found", [Claimed.ANOTHERS, None, b"answer"], ids=str)
def test_without_a_claim_nothing_is_renewed(store, inner, virtual_time, found):
    async def looked():
        inner.found = found
        turn = await store.get_or_claim(CLAIM)
        await asyncio.sleep(10)
        if found is None:
            turn.end()
        await store.aclose()

    virtual_time.run(looked())

    assert inner.told == [(0, "claim"), (10, "close")]
