"""Streams of a whole gateway, with aimock, which others wrote, in OpenAI's place."""

from __future__ import annotations

import asyncio

import pytest
from grpc import StatusCode
from grpc.aio import AioRpcError

from tests.fixtures.pictures import encode, stored
from tests.fixtures.served_gateway import failure
from visiongateway.v1 import image_pb2, vision_service_pb2 as pb

ANSWER = "A cat sits on a red sofa and looks at the window, where a bird sings."
USAGE = {"input_tokens": 1400, "output_tokens": 138, "total_tokens": 1538}


@pytest.fixture
def gpt(aimock, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-test")
    return {"kind": "openai", "base_url": aimock.base_url, "price": {"input": "5", "output": "30"}, "retry": False}


@pytest.fixture
def picture():
    return image_pb2.Image(data=encode(stored(), "PNG"))


async def read(call):
    return [message async for message in call]


async def told(call):
    """What came before a failure, and the failure."""
    said = []
    try:
        async for message in call:
            said.append(message.delta)  # noqa: PERF401  what came before the failure is wanted
    except AioRpcError as error:
        return said, failure(error)
    return said, None


async def test_a_stream_has_the_words_in_order_and_the_bill_of_the_call_that_comes_whole(
    start_gateway, gpt, aimock, picture
):
    slowly = {"ttft": 10, "tps": 100}
    aimock.add(
        {"match": {}, "response": {"content": ANSWER, "usage": USAGE}, "chunkSize": 4, "streamingProfile": slowly}
    )
    gateway = await start_gateway(models={"gpt-5.5": gpt})

    whole = await gateway.stub.Caption(pb.CaptionRequest(image=picture), timeout=20)
    *deltas, last = await read(gateway.stub.StreamCaption(pb.StreamCaptionRequest(image=picture), timeout=20))

    assert ("".join(message.delta for message in deltas), len(deltas) > 1) == (ANSWER, True)
    assert (last.answer.text, last.answer.info.cost_nano_usd) == (whole.text, whole.info.cost_nano_usd)
    assert (last.answer.info.cost_nano_usd, last.answer.info.cost_basis) == (11_140_000, whole.info.cost_basis)
    assert last.answer.info.usage == whole.info.usage


async def test_streams_at_once_neither_lose_nor_mix_a_word(start_gateway, gpt, aimock, picture):
    words = {f"question {number}": " ".join([f"Answer number {number}"] * 8) for number in range(32)}
    for question, answer in words.items():
        fixture = {"match": {"userMessage": question + "?"}, "response": {"content": answer}, "chunkSize": 3}
        aimock.add(fixture)
    gateway = await start_gateway(models={"gpt-5.5": gpt})

    async def ask(question):
        call = gateway.stub.StreamVQA(pb.StreamVQARequest(image=picture, question=question + "?"), timeout=60)
        *deltas, last = await read(call)
        return "".join(message.delta for message in deltas), last.answer.answer

    told = await asyncio.gather(*map(ask, words))

    assert told == [(answer, answer) for answer in words.values()]


async def test_a_stream_cut_after_its_first_word_is_data_loss_and_called_partial(start_gateway, gpt, llmock, picture):
    llmock.reply(ANSWER).truncate(after_chunks=8)
    gateway = await start_gateway(models={"cut": {**gpt, "base_url": llmock.base_url()}, "gpt-5.5": gpt})
    call = gateway.stub.StreamCaption(pb.StreamCaptionRequest(image=picture), timeout=20)

    said, failed = await told(call)

    assert said != []
    assert (failed.code, failed.reason, failed.info.metadata["partial"]) == (
        StatusCode.DATA_LOSS,
        "TRUNCATED_ANSWER",
        "true",
    )


async def test_a_stream_cut_before_its_first_word_is_answered_by_the_next_model(
    start_gateway, gpt, llmock, aimock, picture
):
    aimock.answer(ANSWER)
    llmock.truncate(after_chunks=1)
    gateway = await start_gateway(models={"cut": {**gpt, "base_url": llmock.base_url()}, "gpt-5.5": gpt})

    *deltas, last = await read(gateway.stub.StreamCaption(pb.StreamCaptionRequest(image=picture), timeout=20))

    assert ("".join(message.delta for message in deltas), last.answer.info.model) == (ANSWER, "gpt-5.5")
    assert [attempt.reason for attempt in last.answer.info.attempts] == ["BACKEND_UNAVAILABLE", ""]


async def test_a_caller_who_hangs_up_ends_the_stream_at_the_provider(start_gateway, gpt, llmock, start_tap, picture):
    llmock.reply(ANSWER).stall(after_chunks=8)
    tap = await start_tap(llmock.url)
    gateway = await start_gateway(models={"gpt-5.5": {**gpt, "base_url": f"{tap.url}/v1"}})
    call = gateway.stub.StreamCaption(pb.StreamCaptionRequest(image=picture), timeout=60)
    await call.read()

    call.cancel()

    await asyncio.wait_for(tap.hung_up.wait(), 10)
