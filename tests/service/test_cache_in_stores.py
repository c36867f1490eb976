"""What is kept is kept in a real store, which may also be lost."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
from contextlib import closing, suppress

import pytest
import redis
from test_cache import COALESCED, HIT, MISS, PAID, asked, caption, metric, outcomes

from visiongateway.v1 import call_pb2


@pytest.fixture(params=["memory", "sqlite", "redis"])
def store(request, tmp_path):
    if request.param == "memory":
        return "memory"
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/cache.db"
    return request.getfixturevalue("start_redis")()[0]


async def test_the_second_equal_call_is_a_hit_that_costs_nothing(start_gateway, store):
    gateway = await start_gateway(models={"paid": PAID}, cache={"store": store})

    first = await gateway.stub.Caption(caption())
    second = await gateway.stub.Caption(caption())

    assert (first.info.cache, second.info.cache) == (MISS, HIT)
    assert (second.text, second.info.model, second.info.backend) == (first.text, "paid", "fake")
    assert (second.info.prompt_version, second.info.provider_model) == (
        first.info.prompt_version,
        first.info.provider_model,
    )
    assert first.info.cost_nano_usd > 0
    assert (second.info.cost_nano_usd, second.info.cost_basis) == (0, call_pb2.COST_BASIS_FREE)
    assert (second.info.usage, list(second.info.attempts)) == (call_pb2.Usage(), [])
    assert second.info.image == first.info.image
    assert await asked(gateway) == 1
    assert await outcomes(gateway) == {"miss": 1, "hit": 1}


async def test_a_hundred_equal_calls_at_once_are_one_call_upstream(start_gateway, store):
    gateway = await start_gateway(models={"paid": {**PAID, "delay_s": 0.3}}, cache={"store": store})

    answers = await asyncio.gather(*(gateway.stub.Caption(caption()) for _ in range(100)))

    assert {answer.text for answer in answers} == {"A scripted answer."}
    costs = [answer.info.cost_nano_usd for answer in answers]
    assert sum(cost > 0 for cost in costs) == 1
    assert await asked(gateway) == 1
    spent = await metric(gateway, "vision_gateway_cost_usd_total{")
    assert round(spent * 1e9) == sum(costs)
    assert [answer.info.cache for answer in answers].count(MISS) == 1
    assert {answer.info.cache for answer in answers} <= {MISS, COALESCED, HIT}


async def test_a_dead_store_fails_no_call_and_is_counted(start_gateway, start_redis):
    url, process = start_redis()
    gateway = await start_gateway(models={"paid": PAID}, cache={"store": url})
    process.kill()
    process.wait()

    seen = [(await gateway.stub.Caption(caption())).info.cache for _ in range(3)]

    assert seen == [MISS] * 3
    assert (await outcomes(gateway))["error"] >= 3


async def test_a_silent_store_fails_no_call_and_is_used_again_once_it_speaks(start_gateway, start_redis):
    url, process = start_redis()
    gateway = await start_gateway(models={"paid": PAID}, cache={"store": url})
    process.send_signal(signal.SIGSTOP)
    try:
        silent = [(await gateway.stub.Caption(caption())).info.cache for _ in range(3)]
    finally:
        process.send_signal(signal.SIGCONT)

    assert silent == [MISS] * 3
    async with asyncio.timeout(20):
        while (await gateway.stub.Caption(caption())).info.cache != HIT:  # noqa: ASYNC110  seen from outside
            await asyncio.sleep(0.1)


async def _written(url):
    """Waits until there is an answer in the store, which is written behind the call."""
    async with asyncio.timeout(20):
        while not await asyncio.to_thread(_count, url):  # noqa: ASYNC110  seen from outside
            await asyncio.sleep(0.01)


def _count(url):
    if url.startswith("redis"):
        with redis.Redis.from_url(url) as server:
            return server.dbsize()
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection, suppress(sqlite3.OperationalError):
        return connection.execute("SELECT count(*) FROM answers").fetchone()[0]


@pytest.mark.parametrize("kind", ["sqlite", "redis"])
async def test_gateways_share_answers_through_one_store(start_gateway, request, tmp_path, kind):
    url = f"sqlite:///{tmp_path}/cache.db" if kind == "sqlite" else request.getfixturevalue("start_redis")()[0]
    one, other = [await start_gateway(models={"paid": PAID}, cache={"store": url}) for _ in range(2)]
    await one.stub.Caption(caption())
    await _written(url)

    answer = await other.stub.Caption(caption())

    assert (answer.info.cache, await asked(other)) == (HIT, 0)
