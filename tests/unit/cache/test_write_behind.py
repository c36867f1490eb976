from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest
from structlog.testing import capture_logs

from gateway.cache import StoreFailed
from gateway.cache.behind import WriteBehind

KEY = b"key"


class Scripted:
    """Stands in for a store: fails while it is told to, and is as slow as the test lets it go on."""

    def __init__(self):
        self.kept = {}
        self.reads = self.writes = 0
        self.fails = False
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.closed = False

    async def get(self, key):
        self.reads += 1
        await self.go_on.wait()
        if self.fails:
            raise StoreFailed("down") from OSError()
        return self.kept.get(key)

    async def put(self, key, value, claim):
        self.writes += 1
        await self.go_on.wait()
        if self.fails:
            raise StoreFailed("down") from OSError()
        self.kept[key] = value

    async def aclose(self):
        self.closed = True


@pytest.fixture
async def inner():
    return Scripted()


@pytest.fixture
def store(inner, clock):
    return WriteBehind(inner, clock=clock, patience_s=0.01, pause_s=5.0)


def nothing():
    """What is done when an answer is lost, where nobody looks."""


async def test_what_is_still_being_written_is_there_already(store, inner):
    inner.go_on.clear()
    store.put(KEY, b"one", lost=nothing)

    assert (await store.get(KEY), inner.reads) == (b"one", 0)


async def test_what_was_put_last_stays_though_an_earlier_write_is_slow(store, inner):
    inner.go_on.clear()
    for value in (b"one", b"two", b"three"):
        store.put(KEY, value, lost=nothing)
        await asyncio.sleep(0)
    inner.go_on.set()
    await store.aclose()

    assert (inner.kept, inner.writes, inner.closed) == ({KEY: b"three"}, 2, True)


async def test_a_slow_store_is_not_waited_for_and_let_alone_for_a_while(store, inner, clock):
    inner.go_on.clear()
    for _ in range(5):
        with pytest.raises(StoreFailed):
            await store.get(KEY)
    reads = inner.reads
    inner.go_on.set()
    clock.now += 5.0

    assert (reads, await store.get(KEY), inner.reads) == (1, None, 2)


async def test_while_one_call_finds_out_whether_the_store_works_again_no_other_one_waits(store, inner, clock):
    inner.go_on.clear()
    with pytest.raises(StoreFailed):
        await store.get(KEY)
    clock.now += 5.0
    reads = inner.reads

    ends = await asyncio.gather(*(store.get(KEY) for _ in range(10)), return_exceptions=True)

    assert ([str(end) for end in ends[1:]], inner.reads) == (["the store of the cache is down"] * 9, reads + 1)


async def test_nothing_is_written_to_a_store_that_is_let_alone(store, inner):
    lost = []
    inner.fails = True
    with pytest.raises(StoreFailed):
        await store.get(KEY)
    store.put(KEY, b"one", lost=lambda: lost.append(1))
    await store.aclose()

    assert (inner.writes, lost) == (0, [1])


async def test_an_answer_that_cannot_be_written_is_lost_and_reads_go_on(store, inner):
    lost = []
    inner.fails = True
    store.put(KEY, b"one", lost=lambda: lost.append(1))
    await asyncio.wait(store._running)
    inner.fails = False

    assert (await store.get(KEY), lost) == (None, [1])


async def test_a_failure_is_logged_once_until_the_store_works_again(store, inner, clock):
    events = []
    for fails in (True, True, False, True):
        inner.fails = fails
        clock.now += 5.0
        with capture_logs() as logs, suppress(StoreFailed):
            await store.get(KEY)
        events.append([(line["event"], line["operation"], line["cause"]) for line in logs])

    once = [("cache_store_failed", "get", "OSError")]
    assert events == [once, [], [], once]


async def test_a_read_goes_on_when_its_call_is_cancelled(store, inner):
    inner.go_on.clear()
    reading = asyncio.create_task(store.get(KEY))
    await asyncio.sleep(0)
    reading.cancel()
    await asyncio.wait({reading})
    inner.go_on.set()
    await store.aclose()

    assert (reading.cancelled(), inner.reads, inner.closed) == (True, 1, True)
