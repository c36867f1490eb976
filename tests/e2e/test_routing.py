"""Who answers, with a real Triton that lives and dies, and aimock, which others wrote, in OpenAI's place."""

from __future__ import annotations

import asyncio
import os
import signal
import time

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.fixtures.triton import running
from visiongateway.v1 import call_pb2, image_pb2, vision_service_pb2 as pb

USAGE = {"input_tokens": 1400, "output_tokens": 138, "total_tokens": 1538}


def embedded(triton):
    return {"kind": "triton", "profile": "embedded", "address": triton.grpc_address, "model": "embedded"}


@pytest.fixture
def gpt(aimock, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-test")
    aimock.answer("A cat, says the large model.", usage=USAGE)
    return {"kind": "openai", "base_url": aimock.base_url}


def caption(photograph, **options):
    return pb.CaptionRequest(image=image_pb2.Image(data=photograph), options=call_pb2.CallOptions(**options))


async def until(holds):
    """Asks again and again what only another process knows, for it cannot tell by itself."""
    async with asyncio.timeout(20):
        while not await holds():  # noqa: ASYNC110  no event of this process tells
            await asyncio.sleep(0.01)


async def in_flight(ask, count):
    return await ask.metric("vision_embedded_in_flight") == count


async def sent_image(tap):
    return b"base64" in tap.sent


def attempts(info):
    return [(attempt.model, call_pb2.AttemptOutcome.Name(attempt.outcome), attempt.reason) for attempt in info.attempts]


async def test_a_pinned_call_goes_to_its_model_and_an_unpinned_one_follows_the_route(
    start_gateway, triton, gpt, chelsea
):
    gateway = await start_gateway(models={"embedded": embedded(triton), "gpt-5.5": gpt})

    pinned = await gateway.stub.Caption(caption(chelsea, model="gpt-5.5"), timeout=20)
    unpinned = await gateway.stub.Caption(caption(chelsea), timeout=20)

    assert (pinned.info.model, pinned.info.route_reason) == ("gpt-5.5", "pinned")
    assert (unpinned.info.model, unpinned.info.route_reason) == ("embedded", "route:default")
    assert unpinned.text.startswith("The picture shows a cat.")
    assert (unpinned.info.cost_nano_usd, unpinned.info.cost_basis) == (0, call_pb2.COST_BASIS_FREE)


async def test_what_the_cpu_model_cannot_do_is_refused_by_name_or_done_by_the_next_model(
    start_gateway, triton, gpt, chelsea
):
    gateway = await start_gateway(models={"embedded": embedded(triton), "gpt-5.5": gpt})
    question = {"image": image_pb2.Image(data=chelsea), "question": "Is there a dragon?"}

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await gateway.stub.VQA(pb.VQARequest(**question, options=call_pb2.CallOptions(model="embedded")), timeout=20)
    answered = await gateway.stub.VQA(pb.VQARequest(**question), timeout=20)

    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert "dragon" in caught.value.details()
    assert attempts(answered.info) == [
        ("embedded", "ATTEMPT_OUTCOME_FAILED", "UNSUPPORTED_BY_MODEL"),
        ("gpt-5.5", "ATTEMPT_OUTCOME_OK", ""),
    ]


async def test_with_triton_killed_the_next_model_answers_and_both_are_told(start_gateway, gpt, chelsea):
    with running() as triton:
        gateway = await start_gateway(models={"embedded": embedded(triton), "gpt-5.5": gpt})
        assert (await gateway.stub.Caption(caption(chelsea), timeout=20)).info.model == "embedded"
        os.kill(triton.pid, signal.SIGKILL)

        response = await gateway.stub.Caption(caption(chelsea), timeout=20)

    assert attempts(response.info) == [
        ("embedded", "ATTEMPT_OUTCOME_FAILED", "BACKEND_UNAVAILABLE"),
        ("embedded", "ATTEMPT_OUTCOME_FAILED", "BACKEND_UNAVAILABLE"),
        ("gpt-5.5", "ATTEMPT_OUTCOME_OK", ""),
    ]
    assert response.info.cost_nano_usd == 11_140_000


async def test_with_no_model_left_the_call_is_unavailable_long_before_its_deadline_and_health_says_so(
    start_gateway, chelsea
):
    with running() as triton:
        gateway = await start_gateway(
            models={"embedded": embedded(triton)}, server={"readiness_interval_s": 0.1}.items()
        )
        health = health_pb2_grpc.HealthStub(gateway.channel)
        watch = health.Watch(health_pb2.HealthCheckRequest(service="visiongateway.v1.VisionService"), timeout=60)
        states = [(await watch.read()).status]
        os.kill(triton.pid, signal.SIGKILL)
        started = time.monotonic()

        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await gateway.stub.Caption(caption(chelsea), timeout=30)

        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert time.monotonic() - started < 15
        states.append((await watch.read()).status)
        watch.cancel()

    assert states == [health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING]
    assert await gateway.get("/readyz") == (503, '{"state":"not_serving","models":{"embedded":"not_ready"}}')
    assert (await gateway.get("/healthz"))[0] == 200


async def test_a_call_that_is_cancelled_stops_the_work_in_triton(start_gateway, triton, ask, coffee):
    gateway = await start_gateway(models={"embedded": embedded(triton)})
    cancelled = {"name": "vision_embedded_requests_total", "rpc": "OCR", "outcome": "cancelled"}
    before = await ask.metric(**cancelled)
    request = pb.OCRRequest(image=image_pb2.Image(data=coffee))
    calls = [gateway.stub.OCR(request, timeout=60) for _ in range(4)]
    await until(lambda: in_flight(ask, len(calls)))

    for call in calls:
        call.cancel()
    await until(lambda: in_flight(ask, 0))
    assert await ask.metric(**cancelled) - before == len(calls)


@pytest.mark.parametrize("end", ["cancel", "deadline"])
async def test_a_call_that_ends_early_hangs_up_on_openai(start_gateway, llmock, start_tap, chelsea, monkeypatch, end):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-test")
    llmock.delay(5, times=None)
    tap = await start_tap(llmock.base_url())
    gateway = await start_gateway(models={"gpt-5.5": {"kind": "openai", "base_url": f"{tap.url}/v1"}})

    call = gateway.stub.Caption(caption(chelsea), timeout=0.5 if end == "deadline" else 30)
    await until(lambda: sent_image(tap))
    assert not tap.hung_up.is_set()
    if end == "cancel":
        call.cancel()
    with pytest.raises((grpc.aio.AioRpcError, asyncio.CancelledError)):
        await call

    async with asyncio.timeout(1):
        await tap.hung_up.wait()
