from __future__ import annotations

import asyncio
from contextlib import aclosing

import grpc
import pytest
from tritonclient.grpc import service_pb2

from gateway.backends.triton import Options, connect
from gateway.domain import Completion
from gateway.errors import BackendUnavailable, BrokenOff, TruncatedAnswer, UnsupportedByModel, UnusableAnswer
from gateway.usage import Usage
from tests.fixtures.kserve import empty_final, fails, part, replies, strings, whole

pytestmark = pytest.mark.usefixtures("unblocked_loop")


@pytest.fixture
async def triton(kserve, clock):
    async with connect(Options(address=kserve.address, model="gemma4"), clock=clock) as backend:
        yield backend


async def told(stream):
    """Everything that came, and what it ended with, if that was a failure."""
    pieces = []
    try:
        async for piece in stream:
            pieces.append(piece)  # noqa: PERF401  what came before a failure is wanted too
    except Exception as error:  # noqa: BLE001  the caller compares it
        return pieces, error
    return pieces, None


def bytes_part(text, **told):
    reply = part(**told)
    reply.infer_response.raw_output_contents[0] = strings(text)
    return reply


async def test_an_answer_comes_in_pieces_and_ends_with_the_whole(triton, kserve, prompt, images):
    kserve.script = replies(
        part("a ", tokens=(300, 1)),
        part("cat", tokens=(300, 2)),
        part(finish_reason="stop", tokens=(300, 3), final=True),
    )

    assert await told(triton.stream(prompt, images, timeout_s=5)) == (
        [
            "a ",
            "cat",
            Completion(
                "a cat",
                Usage(input_text=32, input_image=268, output=3),
                provider_model="served/3",
                time_to_first_token_s=0.0,
            ),
        ],
        None,
    )


async def test_the_model_is_asked_for_pieces(triton, kserve, prompt, images):
    await told(triton.stream(prompt, images, timeout_s=5))

    (request,) = kserve.requests
    sent = dict(zip((each.name for each in request.inputs), request.raw_input_contents, strict=True))
    assert sent["streaming"] == b"\x01"


async def test_a_piece_may_end_within_a_character(triton, kserve, prompt, images):
    kserve.script = replies(bytes_part(b"caf\xc3"), bytes_part(b"\xa9", finish_reason="stop", final=True))

    pieces, _ = await told(triton.stream(prompt, images, timeout_s=5))

    assert (pieces[:-1], pieces[-1].text) == (["caf", "é"], "café")


async def test_pieces_that_are_not_text_are_no_answer(triton, kserve, prompt, images):
    kserve.script = replies(
        bytes_part(b"ok", tokens=None), bytes_part(b"\xff\xfe", finish_reason="stop", tokens=None, final=True)
    )

    pieces, error = await told(triton.stream(prompt, images, timeout_s=5))

    assert (pieces, type(error)) == (["ok"], UnusableAnswer)
    assert (error.usage, error.estimated) == (Usage(input_image=268), True)


async def test_a_stream_without_its_end_is_a_cut_answer(triton, kserve, prompt, images):
    kserve.script = replies(part("a ", tokens=(300, 1)))

    pieces, error = await told(triton.stream(prompt, images, timeout_s=5))

    assert (pieces, type(error)) == (["a "], BrokenOff)
    assert error.usage == Usage(input_text=32, input_image=268, output=1)


async def test_a_stream_that_reached_the_token_limit_is_a_cut_answer(triton, kserve, prompt, images):
    kserve.script = replies(part("a "), part("cat", finish_reason="length", tokens=(300, 2)), empty_final())

    pieces, error = await told(triton.stream(prompt, images, timeout_s=5))

    assert (pieces, type(error)) == (["a ", "cat"], TruncatedAnswer)


async def test_a_failure_after_pieces_is_raised_with_what_was_used(triton, kserve, prompt, images):
    kserve.script = fails(grpc.StatusCode.INTERNAL, "out of memory", part("a ", tokens=(300, 1)))

    pieces, error = await told(triton.stream(prompt, images, timeout_s=5))

    assert (pieces, type(error)) == (["a "], BackendUnavailable)
    assert error.usage == Usage(input_text=32, input_image=268, output=1)


async def test_a_failure_told_inside_the_stream_is_raised_too(triton, kserve, prompt, images):
    kserve.script = replies(part("a "), service_pb2.ModelStreamInferResponse(error_message="it broke"))

    pieces, error = await told(triton.stream(prompt, images, timeout_s=5))

    assert (pieces, type(error)) == (["a "], BackendUnavailable)


async def piece_then_hang(_request, _context):
    yield part("a ")
    await asyncio.Event().wait()


async def test_closing_the_stream_stops_the_model(triton, kserve, prompt, images):
    kserve.script = piece_then_hang

    async with aclosing(triton.stream(prompt, images, timeout_s=60)) as stream:
        assert await anext(stream) == "a "

    await asyncio.wait_for(kserve.cancelled.wait(), 10)


async def test_cancelling_who_waits_for_a_piece_stops_the_model(triton, kserve, prompt, images):
    kserve.script = piece_then_hang
    task = asyncio.create_task(told(triton.stream(prompt, images, timeout_s=60)))
    await asyncio.wait_for(kserve.arrived.wait(), 10)

    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.wait_for(kserve.cancelled.wait(), 10)


async def test_a_wire_without_pieces_says_so(kserve, clock, prompt, images):
    async with connect(Options(address=kserve.address, wire="llmapi"), clock=clock) as triton:
        pieces, error = await told(triton.stream(prompt, images, timeout_s=5))

    assert (pieces, type(error), kserve.requests) == ([], UnsupportedByModel, [])


async def test_a_model_that_answers_whole_gives_one_piece(triton, kserve, prompt, images):
    kserve.script = replies(whole("a cat"))

    pieces, _ = await told(triton.stream(prompt, images, timeout_s=5))

    assert (pieces[:-1], pieces[-1].text) == (["a cat"], "a cat")
