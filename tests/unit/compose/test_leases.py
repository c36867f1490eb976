from __future__ import annotations

import pytest

from gateway.compose.leases import Leases


class Opened:
    """What is leased, and whether it is open."""

    def __init__(self):
        self.is_open = True

    def close(self):
        self.is_open = False


@pytest.fixture
def gone():
    return []


@pytest.fixture
def leases(gone):
    return Leases(gone=gone.append)


async def opened(stack):
    thing = Opened()
    stack.callback(thing.close)
    return thing


async def test_what_is_made_of_the_same_is_one_thing_until_its_last_holder_leaves(leases, gone):
    first, second = leases.lease("a", {"x": 1}, opened), leases.lease("a", {"x": 1}, opened)
    one, other = await first.__aenter__(), await second.__aenter__()

    await first.__aexit__(None, None, None)
    kept = (one is other, one.is_open, list(gone))
    await second.__aexit__(None, None, None)

    assert kept == (True, True, [])
    assert (one.is_open, gone) == (False, ["a"])


async def test_what_is_made_of_something_else_is_another_thing_of_the_same_name(leases, gone):
    async with leases.lease("a", 1, opened) as one:
        async with leases.lease("a", 2, opened) as other:
            assert one is not other
        assert (one.is_open, other.is_open, gone) == (True, False, [])


async def test_what_was_closed_is_opened_anew(leases):
    async with leases.lease("a", 1, opened) as one:
        pass
    async with leases.lease("a", 1, opened) as again:
        assert (one.is_open, again.is_open) == (False, True)


async def test_what_cannot_be_opened_leaves_nothing_open(leases):
    halves = []

    async def fail(stack):
        halves.append(await opened(stack))
        raise LookupError

    with pytest.raises(LookupError):
        await leases.lease("a", 1, fail).__aenter__()

    assert [half.is_open for half in halves] == [False]
