"""Streams of a whole gateway before Gemma 4's own classes on a real Triton, with a tiny random checkpoint."""

from __future__ import annotations

import asyncio

import pytest
from grpc import StatusCode

from tests.fixtures.streams import on_triton, picture, read
from tests.fixtures.triton import Asker
from visiongateway.v1 import call_pb2, vision_service_pb2 as pb

_BOUND_S = 60
# Tokens that take the tiny checkpoint longer than any test; at temperature 0 it never ends by itself before.
_LONG = 8_000


def options(most):
    return call_pb2.CallOptions(max_output_tokens=most, temperature=0)


@pytest.fixture
async def gateway(start_gateway, gemma4):
    return await start_gateway(models={"gemma": on_triton(gemma4.triton.grpc_address)})


@pytest.fixture
async def in_flight(gemma4, gateway):
    """Waits until the model itself says that it works on so many requests."""
    asker = Asker(gateway.channel, gemma4.triton.metrics_url)

    async def until(count):
        async with asyncio.timeout(_BOUND_S):
            while await asker.metric("vision_gemma4_in_flight") != count:  # noqa: ASYNC110  a number of another process
                await asyncio.sleep(0.02)

    return until


@pytest.mark.parametrize(
    ("rpc", "fields", "text"),
    [
        ("Caption", {}, "text"),
        ("OCR", {}, "text"),
        ("VQA", {"question": "What is it?"}, "answer"),
        ("Prompt", {"prompt": "Tell me more.", "system": "You are kind."}, "text"),
    ],
)
async def test_the_words_of_a_stream_make_up_its_answer(gateway, rpc, fields, text):
    request = getattr(pb, f"Stream{rpc}Request")(image=picture(), options=options(40), **fields)

    deltas, answer, failed = await read(getattr(gateway.stub, f"Stream{rpc}")(request, timeout=_BOUND_S))

    assert failed is None
    assert len(deltas) > 1
    assert "".join(deltas) == getattr(answer, text)
    assert (answer.info.model, answer.info.provider_model) == ("gemma", "gemma4/1")
    assert answer.info.usage.output_token_count == 40
    assert answer.info.timing.time_to_first_token.ToTimedelta().total_seconds() > 0


async def test_the_first_words_come_while_the_model_writes_on(gateway, in_flight):
    call = gateway.stub.StreamPrompt(
        pb.StreamPromptRequest(image=picture(), prompt="Tell me all.", options=options(_LONG)), timeout=_BOUND_S
    )
    messages = aiter(call)

    heard = [(await anext(messages)).delta for _ in range(3)]
    await in_flight(1)
    call.cancel()

    assert all(heard)
    # The model hears of it too.
    await in_flight(0)


async def test_a_deadline_in_the_middle_of_an_answer_frees_the_model(gateway, in_flight):
    request = pb.StreamPromptRequest(image=picture(), prompt="Tell me all.", options=options(_LONG))

    deltas, answer, failed = await read(gateway.stub.StreamPrompt(request, timeout=1.5))

    assert (bool(deltas), answer, failed.code) == (True, None, StatusCode.DEADLINE_EXCEEDED)
    await in_flight(0)


async def test_sixteen_streams_at_once_each_have_the_answer_that_the_same_question_has_alone(gateway):
    def stream(number):
        request = pb.StreamVQARequest(image=picture(), question=f"What is number {number % 4}?", options=options(40))
        return read(gateway.stub.StreamVQA(request, timeout=_BOUND_S))

    alone = [await stream(number) for number in range(4)]
    together = await asyncio.gather(*map(stream, range(16)))

    for number, (deltas, answer, _) in enumerate(together):
        assert ("".join(deltas), answer.answer) == ("".join(alone[number % 4][0]), alone[number % 4][1].answer)
