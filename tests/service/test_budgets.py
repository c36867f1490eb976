"""Whole gateways whose principals have limits, with scripted models behind them."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

import grpc
import pytest

from tests.fixtures.served_gateway import failure_of
from visiongateway.v1 import image_pb2, vision_service_pb2 as pb

PHOTO = (Path(__file__).parents[1] / "photos" / "coffee.png").read_bytes()
PAID = {"kind": "fake", "profile": "gemma4", "price": {"input": "1000", "output": "1000"}, "output_tokens": 12}
FREE = {"kind": "fake", "profile": "gemma4", "price": "free"}
KEY = "a key of anna's"
ANNA = {"key_sha256": [hashlib.sha256(KEY.encode()).hexdigest()]}
AS_ANNA = (("authorization", f"Bearer {KEY}"),)


def caption(**options):
    return pb.CaptionRequest(image=image_pb2.Image(data=PHOTO), options=options)


async def metric(gateway, line):
    _, text = await gateway.get("/metrics")
    return [float(each.rpartition(" ")[2]) for each in text.splitlines() if each.startswith(line)]


@pytest.fixture
def store(tmp_path):
    return f"sqlite:///{tmp_path}/budgets.db"


async def test_a_budget_is_spent_and_then_says_so(start_gateway, store):
    gateway = await start_gateway(
        models={"paid": PAID}, budgets={"store": store}, principals={"anonymous": {"budget": {"month": "1.00"}}}
    )
    spent = 0
    while spent < 10_000_000_000:
        try:
            spent += (await gateway.stub.Caption(caption())).info.cost_nano_usd
        except grpc.aio.AioRpcError:
            break
    failure = await failure_of(gateway.stub.Caption(caption()))

    assert (failure.code, failure.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "BUDGET_EXCEEDED")
    assert [subject for subject, _ in failure.quota] == ["principal:anonymous"]
    assert failure.info.metadata["window"] == "month"
    assert failure.info.metadata["spent_nano_usd"] == str(spent)
    assert 0 < spent <= 1_000_000_000
    assert failure.trailers["grpc-retry-pushback-ms"] == "-1"
    assert failure.retry_after_s > 60
    assert await metric(gateway, 'vision_gateway_shed_total{reason="BUDGET_EXCEEDED"}') == [2.0]


async def test_a_free_model_answers_when_the_money_is_spent(start_gateway, store):
    gateway = await start_gateway(
        models={"paid": PAID, "free": FREE},
        budgets={"store": store},
        principals={"anonymous": {"budget": {"day": "0"}}},
    )

    info = (await gateway.stub.Caption(caption())).info

    assert (info.model, [each.reason for each in info.attempts]) == ("free", ["BUDGET_EXCEEDED", ""])


async def test_calls_in_flight_hold_their_worst_case(start_gateway, store):
    gateway = await start_gateway(
        models={"paid": {**PAID, "delay_s": 0.2}},
        budgets={"store": store},
        principals={"anonymous": {"budget": {"hour": "2.50"}}},
    )

    ends = await asyncio.gather(*(gateway.stub.Caption(caption()) for _ in range(8)), return_exceptions=True)

    costs = [each.info.cost_nano_usd for each in ends if not isinstance(each, Exception)]
    refusals = [each for each in ends if isinstance(each, Exception)]
    assert 0 < len(costs) < 8
    assert {each.code() for each in refusals} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
    assert {dict(each.trailing_metadata())["grpc-retry-pushback-ms"] for each in refusals} == {"1000"}
    assert sum(costs) <= 2_500_000_000


async def test_principals_have_budgets_of_their_own(start_gateway, store):
    gateway = await start_gateway(
        models={"paid": PAID},
        budgets={"store": store},
        principals={"anna": {**ANNA, "budget": {"day": "100"}}, "anonymous": {"budget": {"day": "0"}}},
    )

    assert (await failure_of(gateway.stub.Caption(caption()))).reason == "BUDGET_EXCEEDED"
    assert (await gateway.stub.Caption(caption(), metadata=AS_ANNA)).info.model == "paid"


@pytest.mark.parametrize("metadata", [(), (("authorization", "Bearer wrong"),), (("authorization", KEY),)])
async def test_a_call_without_a_known_key_is_refused(start_gateway, metadata):
    gateway = await start_gateway(models={"free": FREE}, principals={"anna": ANNA})

    failure = await failure_of(gateway.stub.Caption(caption(), metadata=metadata))

    assert (failure.code, failure.reason) == (grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED")
    assert (await gateway.stub.Caption(caption(), metadata=AS_ANNA)).info.model == "free"


@pytest.mark.parametrize(
    ("on_failure", "models", "end"),
    [
        ("closed", {"paid": PAID}, "STORE_UNAVAILABLE"),
        ("closed", {"paid": PAID, "free": FREE}, "free"),
        ("open", {"paid": PAID}, "paid"),
    ],
)
async def test_with_the_store_down(start_gateway, tmp_path, on_failure, models, end):
    (tmp_path / "a-file").write_text("where a folder should be")
    gateway = await start_gateway(
        models=models,
        budgets={"store": f"sqlite:///{tmp_path}/a-file/budgets.db", "on_failure": on_failure},
        principals={"anonymous": {"budget": {"day": "100"}}},
    )

    if end == "STORE_UNAVAILABLE":
        failure = await failure_of(gateway.stub.Caption(caption()))
        assert (failure.code, failure.reason) == (grpc.StatusCode.UNAVAILABLE, end)
    else:
        assert (await gateway.stub.Caption(caption())).info.model == end
    label = f'vision_gateway_store_failures_total{{decision="{on_failure}",operation="reserve"}}'
    assert await metric(gateway, label) == [1.0]


async def test_no_more_calls_at_once_than_allowed(start_gateway, store):
    gateway = await start_gateway(
        models={"free": {**FREE, "delay_s": 0.5}},
        budgets={"store": store},
        principals={"anonymous": {"max_inflight": 2}},
    )

    ends = await asyncio.gather(*(gateway.stub.Caption(caption()) for _ in range(5)), return_exceptions=True)

    assert sorted(isinstance(each, grpc.aio.AioRpcError) for each in ends) == [False, False, True, True, True]
    assert (await gateway.stub.Caption(caption())).info.model == "free"


async def test_no_more_calls_a_second_than_allowed(start_gateway):
    gateway = await start_gateway(models={"free": FREE}, principals={"anna": {**ANNA, "requests_per_s": 3}})

    ends = await asyncio.gather(
        *(gateway.stub.Caption(caption(), metadata=AS_ANNA) for _ in range(20)), return_exceptions=True
    )
    refused = [each for each in ends if isinstance(each, grpc.aio.AioRpcError)]

    assert 0 < len(refused) <= 17
    assert {each.code() for each in refused} == {grpc.StatusCode.RESOURCE_EXHAUSTED}


async def test_what_is_left_of_a_budget_is_a_metric(start_gateway, store):
    gateway = await start_gateway(
        server={"readiness_interval_s": 0.05},
        models={"paid": PAID},
        budgets={"store": store},
        principals={"anonymous": {"budget": {"day": "100"}}},
    )
    cost = (await gateway.stub.Caption(caption())).info.cost_nano_usd

    line = 'vision_gateway_budget_remaining_usd{principal="anonymous",window="day"}'
    async with asyncio.timeout(20):
        while await metric(gateway, line) != [pytest.approx(100 - cost * 1e-9)]:  # noqa: ASYNC110  seen from outside
            await asyncio.sleep(0.02)
