"""Equal calls in flight at a whole gateway, through real stubs."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing

import grpc
from test_cache import COALESCED, MISS, PAID, caption, metric

from tests.fixtures.served_gateway import failure_of


async def test_every_answer_of_a_shared_call_is_told_in_its_own_name(start_gateway):
    gateway = await start_gateway(models={"paid": {**PAID, "delay_s": 0.3}}, cache={"store": "memory"})

    calls = [gateway.stub.Caption(caption(), metadata=(("x-request-id", f"call-{i}"),)) for i in range(10)]
    answers = await asyncio.gather(*calls)

    assert [answer.info.request_id for answer in answers] == [f"call-{i}" for i in range(10)]


async def _in_flight(gateway, calls):
    """Waits until so many calls are worked on, and the model is asked."""
    async with asyncio.timeout(20):
        while (  # noqa: ASYNC110  seen from outside
            await metric(gateway, 'vision_gateway_inflight{scope="server"}') < calls
            or await metric(gateway, 'vision_gateway_inflight{scope="paid"}') < 1
        ):
            await asyncio.sleep(0.01)


async def test_when_the_first_caller_goes_the_others_get_the_answer_and_it_is_on_the_first_one_s_bill(
    start_gateway, tmp_path
):
    ledger = f"sqlite:///{tmp_path}/ledger.db"
    gateway = await start_gateway(
        models={"paid": {**PAID, "delay_s": 2.0}}, cache={"store": "memory"}, ledger={"url": ledger}
    )
    first = gateway.stub.Caption(caption(), metadata=(("x-request-id", "first"),))
    await _in_flight(gateway, 1)
    others = [asyncio.ensure_future(gateway.stub.Caption(caption())) for _ in range(3)]
    await _in_flight(gateway, 4)
    first.cancel()

    answers = await asyncio.gather(*others)

    assert [answer.info.cache for answer in answers] == [COALESCED] * 3
    assert [answer.info.cost_nano_usd for answer in answers] == [0] * 3
    with closing(sqlite3.connect(f"{tmp_path}/ledger.db")) as connection:
        rows = connection.execute("SELECT request_id, outcome FROM vision_gateway_attempts").fetchall()
    assert rows == [("first", "ok")]


async def test_a_first_caller_in_a_hurry_takes_nobody_along(start_gateway):
    gateway = await start_gateway(models={"paid": {**PAID, "delay_s": 3.0}}, cache={"store": "memory"})
    first = asyncio.ensure_future(failure_of(gateway.stub.Caption(caption(), timeout=1.5)))
    await _in_flight(gateway, 1)
    others = [asyncio.ensure_future(gateway.stub.Caption(caption(), timeout=20)) for _ in range(3)]

    answers = await asyncio.gather(*others)

    assert (await first).code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert sorted(answer.info.cache for answer in answers) == [MISS, COALESCED, COALESCED]


async def test_a_call_that_nobody_waits_for_any_more_is_cancelled(start_gateway):
    gateway = await start_gateway(models={"paid": {**PAID, "delay_s": 60}}, cache={"store": "memory"})
    calls = [gateway.stub.Caption(caption()) for _ in range(3)]
    await _in_flight(gateway, 3)
    for call in calls:
        call.cancel()

    async with asyncio.timeout(20):
        while await metric(gateway, 'vision_gateway_inflight{scope="paid"}'):  # noqa: ASYNC110  seen from outside
            await asyncio.sleep(0.01)
