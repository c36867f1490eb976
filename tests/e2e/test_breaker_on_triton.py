"""A model on a real Triton whose process dies and is started again, and the model that answers meanwhile."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from pathlib import Path

import grpc
import pytest

from tests.fixtures.triton import running
from visiongateway.v1 import call_pb2, image_pb2, vision_service_pb2 as pb

CLOSED, OPEN = 0, 2
STAND_IN = {"kind": "fake", "profile": "embedded", "answer": '{"text": "Said by the stand-in."}'}


def embedded(triton):
    """One attempt a call, so that failures can be counted."""
    model = {"kind": "triton", "profile": "embedded", "address": triton.grpc_address, "model": "embedded"}
    return {**model, "retry": False}


def kill_the_model(triton):
    for child in Path(f"/proc/{triton.pid}/task/{triton.pid}/children").read_text().split():
        if Path(f"/proc/{child}/comm").read_text().startswith("triton_python"):
            os.kill(int(child), signal.SIGKILL)


@pytest.fixture
def caption(chelsea):
    return pb.CaptionRequest(image=image_pb2.Image(data=chelsea))


async def breaker_state(gateway):
    _, page = await gateway.get("/metrics")
    return float(re.search(r'^vision_gateway_breaker_state\{model="embedded"\} (\S+)', page, re.MULTILINE)[1])


def of_embedded(response):
    attempt = response.info.attempts[0]
    return attempt.model, call_pb2.AttemptOutcome.Name(attempt.outcome), attempt.reason


async def until(holds, *, within_s):
    """Asks again and again what only another process knows, for it cannot tell by itself."""
    async with asyncio.timeout(within_s):
        while not await holds():  # noqa: ASYNC110  no event of this process tells
            await asyncio.sleep(0.05)


async def loaded_anew(triton, first):
    return triton.pid != first


async def answers(gateway, caption):
    return (await gateway.stub.Caption(caption, timeout=20)).info.model == "embedded"


async def is_not_ready(gateway):
    return '"embedded":"not_ready"' in (await gateway.get("/readyz"))[1]


async def test_a_model_that_died_is_passed_over_and_asked_again_soon_after_it_was_loaded_anew(start_gateway, caption):
    with running(supervise=True) as triton:
        gateway = await start_gateway(models={"embedded": embedded(triton), "stand-in": STAND_IN})
        assert (await gateway.stub.Caption(caption, timeout=20)).info.model == "embedded"
        assert await breaker_state(gateway) == CLOSED
        first = triton.pid
        kill_the_model(triton)

        told = [of_embedded(await gateway.stub.Caption(caption, timeout=20)) for _ in range(6)]
        opened = await breaker_state(gateway)
        await until(lambda: loaded_anew(triton, first), within_s=60)
        await until(lambda: answers(gateway, caption), within_s=10)

        assert told == [
            *[("embedded", "ATTEMPT_OUTCOME_FAILED", "BACKEND_UNAVAILABLE")] * 5,
            ("embedded", "ATTEMPT_OUTCOME_SKIPPED", "BACKEND_UNAVAILABLE"),
        ]
        assert opened == OPEN
        assert await breaker_state(gateway) == CLOSED


async def test_with_no_other_model_every_call_to_a_dead_one_fails_and_each_is_on_record(start_gateway, caption):
    with running() as triton:
        gateway = await start_gateway(models={"embedded": embedded(triton)})
        kill_the_model(triton)
        failures = [await failure(gateway, caption) for _ in range(5)]
        opened = await breaker_state(gateway)

        failures += await asyncio.gather(*(failure(gateway, caption) for _ in range(10)))

        assert failures == [grpc.StatusCode.UNAVAILABLE] * 15
        assert opened == OPEN
        # Who tries a dead one asks nobody for the next two seconds, so how many got to try is a matter of milliseconds.
        failed, skipped = [await attempts(gateway, outcome) for outcome in ("failed", "skipped")]
        assert (failed >= 6, failed + skipped) == (True, 15)


async def failure(gateway, caption):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await gateway.stub.Caption(caption, timeout=20)
    return caught.value.code()


async def attempts(gateway, outcome):
    labels = f'model="embedded",outcome="{outcome}",reason="BACKEND_UNAVAILABLE",rpc="Caption"'
    _, page = await gateway.get("/metrics")
    found = re.search(rf"^vision_gateway_attempts_total\{{{labels}\}} (\S+)", page, re.MULTILINE)
    return float(found[1]) if found else 0.0


async def test_a_frozen_triton_costs_a_few_calls_their_share_of_the_time_and_then_none(start_gateway, caption):
    with running() as triton:
        gateway = await start_gateway(
            models={"embedded": embedded(triton), "stand-in": STAND_IN},
            # Nobody looks meanwhile, so that only calls can tell.
            server={"readiness_interval_s": 60},
        )
        # How long a call usually takes is known after five of them.
        for _ in range(5):
            await gateway.stub.Caption(caption, timeout=20)
        os.kill(triton.pid, signal.SIGSTOP)
        try:
            hung = await asyncio.gather(*(gateway.stub.Caption(caption, timeout=3) for _ in range(5)))
            opened = await breaker_state(gateway)
            after = await gateway.stub.Caption(caption, timeout=3)
        finally:
            os.kill(triton.pid, signal.SIGCONT)
        await until(lambda: answers(gateway, caption), within_s=10)

    assert [of_embedded(response) for response in hung] == [("embedded", "ATTEMPT_OUTCOME_FAILED", "DEADLINE")] * 5
    assert opened == OPEN
    assert of_embedded(after) == ("embedded", "ATTEMPT_OUTCOME_SKIPPED", "BACKEND_UNAVAILABLE")


async def test_a_frozen_triton_that_was_looked_at_costs_no_call(start_gateway, caption):
    with running() as triton:
        gateway = await start_gateway(
            models={"embedded": {**embedded(triton), "ready_timeout_s": 0.2}, "stand-in": STAND_IN},
            server={"readiness_interval_s": 0.1},
        )
        await gateway.stub.Caption(caption, timeout=20)
        os.kill(triton.pid, signal.SIGSTOP)
        try:
            await until(lambda: is_not_ready(gateway), within_s=20)
            passed = await asyncio.gather(*(gateway.stub.Caption(caption, timeout=3) for _ in range(5)))
            kept = await breaker_state(gateway)
        finally:
            os.kill(triton.pid, signal.SIGCONT)
        await until(lambda: answers(gateway, caption), within_s=10)

    skipped = ("embedded", "ATTEMPT_OUTCOME_SKIPPED", "BACKEND_UNAVAILABLE")
    assert [of_embedded(response) for response in passed] == [skipped] * 5
    assert kept == CLOSED
