"""Both clients hand out text as it comes, and the whole answer at the end."""

from __future__ import annotations

import asyncio
import gc
import threading

import grpc
import pytest
from google.protobuf.json_format import MessageToDict

from tests.client.test_client_calls import CALLS, IMAGE, IMAGE_JSON
from tests.fixtures.scripted_gateway import Failure
from visiongateway import AsyncVisionClient, Unavailable, UnusableAnswer, VisionClient, VisionError
from visiongateway.v1 import vision_service_pb2 as pb

WORDS = ["A ", "cat ", "sleeps."]
ANSWER = pb.CaptionResponse(text="A cat sleeps.")
DELTAS = [pb.StreamCaptionResponse(delta=word) for word in WORDS]
END = pb.StreamCaptionResponse(answer=ANSWER)
STREAMED = [each for each in CALLS if each[0] in {"caption", "ocr", "vqa", "prompt"}]


def read_sync(address, method, *arguments, **keywords):
    """Gives the pieces, the stream, and the failure where it failed."""
    with VisionClient(address) as client:
        stream, pieces = getattr(client, method)(*arguments, **keywords), []
        try:
            for piece in stream:
                pieces.append(piece)  # noqa: PERF402  What came before a failure counts.
        except VisionError as failure:
            return pieces, stream, failure
        return pieces, stream, None


def read_async(address, method, *arguments, **keywords):
    async def read():
        async with AsyncVisionClient(address) as client:
            stream, pieces = getattr(client, method)(*arguments, **keywords), []
            try:
                async for piece in stream:
                    pieces.append(piece)  # noqa: PERF401  What came before a failure counts.
            except VisionError as failure:
                return pieces, stream, failure
            return pieces, stream, None

    return asyncio.run(read())


TWINS = pytest.mark.parametrize("read", [read_sync, read_async], ids=["sync", "async"])


@TWINS
def test_text_comes_piece_by_piece_and_then_the_whole_answer_is_there(scripted_gateway, read):
    scripted_gateway.script("StreamCaption", [*DELTAS, END])

    pieces, stream, failure = read(scripted_gateway.address, "stream_caption", IMAGE)

    assert (pieces, stream.text, stream.answer, failure) == (WORDS, "A cat sleeps.", ANSWER, None)


@TWINS
@pytest.mark.parametrize(("method", "arguments", "keywords", "rpc", "expected"), STREAMED)
def test_a_stream_takes_the_arguments_of_its_unary_twin(
    scripted_gateway, read, method, arguments, keywords, rpc, expected
):
    kind = getattr(pb, f"Stream{rpc}Response")
    scripted_gateway.script(f"Stream{rpc}", [kind(answer=getattr(pb, f"{rpc}Response")())])

    read(scripted_gateway.address, f"stream_{method}", IMAGE, *arguments, **keywords, seed=3)

    (attempt,) = scripted_gateway.attempts
    sent = MessageToDict(attempt.request, preserving_proto_field_name=True)
    assert (attempt.rpc, sent) == (f"Stream{rpc}", {"image": IMAGE_JSON, "options": {"seed": "3"}, **expected})


@TWINS
def test_deadline_and_request_id_go_with_a_stream(scripted_gateway, read):
    scripted_gateway.script("StreamCaption", [END])

    read(scripted_gateway.address, "stream_caption", IMAGE, timeout=20, request_id="order-7")

    (attempt,) = scripted_gateway.attempts
    assert attempt.metadata["x-request-id"] == "order-7"
    assert attempt.time_left == pytest.approx(20, abs=5)


@TWINS
def test_a_failure_has_the_clients_own_class_and_what_had_come(scripted_gateway, read):
    broken = Failure(grpc.StatusCode.DATA_LOSS, "It broke.", "TRUNCATED_ANSWER", {"partial": "true"})
    scripted_gateway.script("StreamCaption", [*DELTAS[:2], broken])

    pieces, _, failure = read(scripted_gateway.address, "stream_caption", IMAGE, request_id="order-7")

    assert type(failure) is UnusableAnswer
    assert (failure.reason, failure.metadata, failure.request_id) == (
        "TRUNCATED_ANSWER",
        {"partial": "true"},
        "order-7",
    )
    assert (pieces, failure.partial_text) == (WORDS[:2], "A cat ")


@TWINS
def test_a_stream_that_has_delivered_is_not_tried_again(scripted_gateway, read):
    scripted_gateway.script("StreamCaption", [DELTAS[0], Failure(grpc.StatusCode.UNAVAILABLE)], [*DELTAS, END])

    pieces, _, failure = read(scripted_gateway.address, "stream_caption", IMAGE)

    assert (pieces, type(failure), len(scripted_gateway.attempts)) == (["A "], Unavailable, 1)


@TWINS
def test_a_stream_that_is_unavailable_before_its_first_word_is_tried_again(scripted_gateway, read):
    scripted_gateway.script("StreamCaption", Failure(grpc.StatusCode.UNAVAILABLE), [*DELTAS, END])

    pieces, _, failure = read(scripted_gateway.address, "stream_caption", IMAGE)

    assert (pieces, failure, len(scripted_gateway.attempts)) == (WORDS, None, 2)


@TWINS
def test_a_stream_that_ends_well_but_without_its_answer_failed(scripted_gateway, read):
    scripted_gateway.script("StreamCaption", DELTAS)

    _, _, failure = read(scripted_gateway.address, "stream_caption", IMAGE, request_id="order-7")

    assert str(failure) == "DATA_LOSS: the stream ended before the whole answer came"
    assert (type(failure), failure.partial_text, failure.request_id) == (UnusableAnswer, "A cat sleeps.", "order-7")


@TWINS
def test_the_answer_of_a_stream_that_was_not_read_is_not_there(scripted_gateway, read):
    scripted_gateway.script("StreamCaption", [DELTAS[0], Failure(grpc.StatusCode.INTERNAL)])

    _, stream, _ = read(scripted_gateway.address, "stream_caption", IMAGE)

    with pytest.raises(RuntimeError, match="was not read to its end"):
        _ = stream.answer


def test_wrong_arguments_are_told_when_the_stream_is_asked_for(scripted_gateway):
    with VisionClient(scripted_gateway.address) as client, pytest.raises(TypeError, match="unknown option modle"):
        client.stream_caption(IMAGE, modle="x")


async def test_wrong_arguments_are_told_by_the_asyncio_client_too(scripted_gateway):
    async with AsyncVisionClient(scripted_gateway.address) as client:
        with pytest.raises(TypeError, match="unknown option modle"):
            client.stream_caption(IMAGE, modle="x")


@pytest.fixture
def endless(scripted_gateway):
    """Makes a stream that goes on until it is cancelled; gives what is set then."""
    cancelled = threading.Event()

    def first(_, context):
        context.add_callback(cancelled.set)
        return DELTAS[0]

    def wait(*_):
        assert cancelled.wait(30)
        return DELTAS[0]

    scripted_gateway.script("StreamCaption", [first, wait])
    return cancelled


def test_closing_a_stream_early_cancels_its_call(scripted_gateway, endless):
    with VisionClient(scripted_gateway.address) as client:
        with client.stream_caption(IMAGE) as stream:
            first = next(stream)
        assert endless.wait(20)

        assert (first, list(stream), stream.text) == ("A ", [], "A ")


async def test_closing_an_asyncio_stream_early_cancels_its_call(scripted_gateway, endless):
    async with AsyncVisionClient(scripted_gateway.address) as client:
        async with client.stream_caption(IMAGE) as stream:
            first = await anext(stream)
        assert await asyncio.to_thread(endless.wait, 20)

        assert (first, [each async for each in stream], stream.text) == ("A ", [], "A ")


@pytest.mark.usefixtures("endless")
def test_a_stream_closed_by_another_thread_ends(scripted_gateway):
    with VisionClient(scripted_gateway.address) as client:
        stream = client.stream_caption(IMAGE)
        next(stream)
        closing = threading.Timer(0.1, stream.close)
        closing.start()

        assert list(stream) == []
        closing.join()


@pytest.mark.usefixtures("endless")
async def test_an_asyncio_stream_closed_by_another_task_ends(scripted_gateway):
    async with AsyncVisionClient(scripted_gateway.address) as client:
        stream = client.stream_caption(IMAGE)
        await anext(stream)
        reading = asyncio.create_task(anext(stream, "the end"))
        await asyncio.sleep(0)
        await stream.close()

        assert await reading == "the end"


async def test_cancelling_who_reads_an_asyncio_stream_cancels_its_call(scripted_gateway, endless):
    async with AsyncVisionClient(scripted_gateway.address) as client:
        stream = client.stream_caption(IMAGE)
        await anext(stream)
        reading = asyncio.create_task(anext(stream))
        await asyncio.sleep(0)
        reading.cancel()

        with pytest.raises(asyncio.CancelledError):
            await reading
        assert await asyncio.to_thread(endless.wait, 20)


def test_a_stream_that_nobody_has_any_more_is_cancelled(scripted_gateway, endless):
    with VisionClient(scripted_gateway.address) as client:
        for _ in client.stream_caption(IMAGE):
            break
        gc.collect()

        assert endless.wait(20)


async def test_an_asyncio_stream_that_nobody_has_any_more_is_cancelled(scripted_gateway, endless):
    async with AsyncVisionClient(scripted_gateway.address) as client:
        async for _ in client.stream_caption(IMAGE):
            break
        gc.collect()

        assert await asyncio.to_thread(endless.wait, 20)


async def test_an_asyncio_stream_closed_before_it_began_makes_no_call(scripted_gateway):
    async with AsyncVisionClient(scripted_gateway.address) as client:
        stream = client.stream_caption(IMAGE)
        await stream.close()

        assert ([each async for each in stream], scripted_gateway.attempts) == ([], [])
