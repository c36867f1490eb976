"""Equal calls in flight at several gateways that share a store of answers, through real stubs."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from contextlib import closing

import pytest
from test_cache import COALESCED, HIT, MISS, PAID, asked, caption, metric, outcomes

REPLICAS = 3


@pytest.fixture(params=["sqlite", "redis"])
def store(request, tmp_path):
    return (
        f"sqlite:///{tmp_path}/cache.db" if request.param == "sqlite" else request.getfixturevalue("start_redis")()[0]
    )


@pytest.fixture
def start_replicas(start_gateway, tmp_path):
    """Starts gateways with one ledger and one store; their model takes so long."""

    async def start(store, delay_s):
        tables = {
            "models": {"paid": {**PAID, "delay_s": delay_s}},
            "cache": {"store": store},
            "ledger": {"url": f"sqlite:///{tmp_path}/ledger.db"},
        }
        return [await start_gateway(**tables) for _ in range(REPLICAS)]

    return start


async def _summed(replicas):
    return sum([Counter(await outcomes(each)) for each in replicas], Counter())


def _paid(tmp_path):
    with closing(sqlite3.connect(f"{tmp_path}/ledger.db")) as connection:
        query = "SELECT outcome, cost_nano_usd FROM vision_gateway_attempts"
        return [cost for outcome, cost in connection.execute(query).fetchall() if outcome == "ok"]


async def _ledger_has(tmp_path, rows):
    """Waits until the ledger, which is written behind the calls, has so many paid attempts."""
    async with asyncio.timeout(20):
        while len(_paid(tmp_path)) < rows:  # noqa: ASYNC110  seen from outside
            await asyncio.sleep(0.02)


async def test_sixty_equal_calls_at_three_gateways_are_one_call_upstream(start_replicas, store, tmp_path):
    replicas = await start_replicas(store, delay_s=1.0)

    answers = await asyncio.gather(*(replicas[i % REPLICAS].stub.Caption(caption()) for i in range(60)))

    told = Counter(answer.info.cache for answer in answers)
    assert {answer.text for answer in answers} == {"A scripted answer."}
    assert sum([await asked(each) for each in replicas]) == 1
    assert (told[MISS], told[COALESCED] + told[HIT]) == (1, 59)
    assert sum(answer.info.cost_nano_usd > 0 for answer in answers) == 1
    await _ledger_has(tmp_path, 1)
    assert _paid(tmp_path) == [max(answer.info.cost_nano_usd for answer in answers)]
    assert await _summed(replicas) == {
        "miss": 1,
        "coalesced": told[COALESCED],
        **({"hit": told[HIT]} if told[HIT] else {}),
    }


async def test_when_redis_dies_while_one_asks_all_are_answered(start_replicas, start_redis):
    url, process = start_redis()
    replicas = await start_replicas(url, delay_s=2.0)
    calls = [asyncio.ensure_future(replicas[i % REPLICAS].stub.Caption(caption())) for i in range(30)]
    async with asyncio.timeout(20):
        while not [each for each in replicas if await metric(each, 'vision_gateway_inflight{scope="paid"}')]:  # noqa: ASYNC110  seen from outside
            await asyncio.sleep(0.01)
    process.kill()
    process.wait()

    answers = await asyncio.gather(*calls)

    assert {answer.text for answer in answers} == {"A scripted answer."}
    # Each gateway that waited asks once for all of its own.
    assert 1 <= sum([await asked(each) for each in replicas]) <= REPLICAS
    assert sum(answer.info.cost_nano_usd > 0 for answer in answers) == sum([await asked(each) for each in replicas])


async def test_when_one_gateway_s_caller_goes_another_gateway_asks(start_replicas, store):
    first, other, _ = await start_replicas(store, delay_s=2.0)
    call = first.stub.Caption(caption())
    async with asyncio.timeout(20):
        while not await metric(first, 'vision_gateway_inflight{scope="paid"}'):  # noqa: ASYNC110  seen from outside
            await asyncio.sleep(0.01)
    waiting = asyncio.ensure_future(other.stub.Caption(caption()))
    async with asyncio.timeout(20):
        while not await metric(other, 'vision_gateway_inflight{scope="server"}'):  # noqa: ASYNC110  seen from outside
            await asyncio.sleep(0.01)
    call.cancel()

    answer = await waiting

    assert (answer.info.cache, await asked(other)) == (MISS, 1)
