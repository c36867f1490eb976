"""A whole gateway whose budgets and rates are in a real Redis, and that loses it."""

from __future__ import annotations

import asyncio

import grpc
import pytest
from test_budgets import FREE, PAID, caption, metric

from tests.fixtures.served_gateway import failure_of

LIMITED = {"anonymous": {"budget": {"day": "100"}, "requests_per_s": 1000, "max_inflight": 5}}


async def test_when_redis_dies_nothing_is_spent_unseen(start_gateway, start_redis):
    url, process = start_redis()
    gateway = await start_gateway(
        models={"paid": PAID}, budgets={"store": url}, principals={"anonymous": {"budget": {"day": "100"}}}
    )
    assert (await gateway.stub.Caption(caption())).info.model == "paid"
    process.kill()
    process.wait()

    failure = await failure_of(gateway.stub.Caption(caption()))

    assert (failure.code, failure.reason) == (grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE")
    assert await metric(gateway, 'vision_gateway_store_failures_total{decision="closed",operation="reserve"}') == [1.0]


async def test_when_redis_dies_calls_pass_where_the_operator_says_so(start_gateway, start_redis):
    url, process = start_redis()
    gateway = await start_gateway(
        models={"paid": PAID}, budgets={"store": url, "on_failure": "open"}, principals=LIMITED
    )
    process.kill()
    process.wait()

    assert (await gateway.stub.Caption(caption())).info.model == "paid"
    for operation in ("enter", "rate", "reserve"):
        label = f'vision_gateway_store_failures_total{{decision="open",operation="{operation}"}}'
        assert await metric(gateway, label) == [1.0]


async def test_two_gateways_share_one_rate(start_gateway, start_redis):
    url, _ = start_redis()
    tables = {
        "models": {"free": FREE},
        "budgets": {"store": url},
        "principals": {"anonymous": {"requests_per_s": 2}},
    }
    gateways = [await start_gateway(**tables) for _ in range(2)]

    calls = [gateway.stub.Caption(caption()) for gateway in gateways for _ in range(10)]
    ends = await asyncio.gather(*calls, return_exceptions=True)

    refused = [each for each in ends if isinstance(each, grpc.aio.AioRpcError)]
    assert {each.code() for each in refused} == {grpc.StatusCode.RESOURCE_EXHAUSTED}


@pytest.mark.parametrize("store", ["sqlite", "redis"])
async def test_calls_at_once_are_counted_over_all_gateways(start_gateway, tmp_path, request, store):
    url = f"sqlite:///{tmp_path}/b.db" if store == "sqlite" else request.getfixturevalue("start_redis")()[0]
    tables = {
        "models": {"free": {**FREE, "delay_s": 0.5}},
        "budgets": {"store": url},
        "principals": {"anonymous": {"max_inflight": 3}},
    }
    gateways = [await start_gateway(**tables) for _ in range(2)]

    calls = [gateway.stub.Caption(caption()) for gateway in gateways for _ in range(4)]
    ends = await asyncio.gather(*calls, return_exceptions=True)

    assert sum(isinstance(each, grpc.aio.AioRpcError) for each in ends) == 5
