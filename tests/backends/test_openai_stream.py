"""Streams of two OpenAI-compatible servers that others wrote, llmock and aimock."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from gateway.backends.openai import connect
from gateway.domain import Completion
from gateway.errors import (
    BackendUnavailable,
    BrokenOff,
    DeadlineExceeded,
    UnsupportedByModel,
    UnusableAnswer,
    UpstreamAuth,
    UpstreamRateLimited,
)
from gateway.usage import Usage
from tests.fixtures.openai_calls import PICTURE, UNTOLD, options, told

pytestmark = pytest.mark.usefixtures("unblocked_loop", "key")

ANSWER = "A cat sits on a red sofa and looks at the window."
BILLED = {"input_tokens": 1400, "output_tokens": 138}


@pytest.fixture
async def at_aimock(aimock, clock):
    async with connect(options(aimock.base_url), clock=clock) as backend:
        yield backend


async def test_an_answer_comes_in_pieces_and_ends_with_the_whole_and_its_bill(at_aimock, aimock, prompt):
    aimock.answer(ANSWER, usage=BILLED, model="gpt-5.5-2026-04-23")

    pieces, error = await told(at_aimock.stream(prompt, (PICTURE,), timeout_s=10))

    assert (error, len(pieces) > 2, "".join(pieces[:-1])) == (None, True, ANSWER)
    assert pieces[-1] == Completion(
        ANSWER,
        Usage(input_text=171, input_image=1229, output=138),
        provider_model="gpt-5.5-2026-04-23",
        time_to_first_token_s=0.0,
    )


async def test_a_stream_is_billed_as_the_call_that_comes_whole(openai, llmock, prompt):
    llmock.reply(ANSWER, times=2)

    whole = await openai.complete(prompt, (PICTURE,), timeout_s=10)
    *pieces, streamed = (await told(openai.stream(prompt, (PICTURE,), timeout_s=10)))[0]

    assert (streamed.text, streamed.usage, streamed.provider_model) == (ANSWER, whole.usage, whole.provider_model)
    assert "".join(pieces) == ANSWER


async def test_the_request_asks_for_a_stream_without_noise(at_aimock, aimock, prompt):
    aimock.answer(ANSWER)

    await told(at_aimock.stream(prompt, (PICTURE,), timeout_s=10))

    (entry,) = aimock.journal()
    assert (entry["body"]["stream"], entry["headers"]["x-client-request-id"]) == (True, "req-1")


@pytest.mark.parametrize("text", ["猫が赤いソファに座っている。", "a 🐈 on a 🛋️, by a 🪟, née café"])
async def test_text_of_every_script_comes_whole(openai, llmock, prompt, text):
    llmock.reply(text)

    *pieces, whole = (await told(openai.stream(prompt, (PICTURE,), timeout_s=10)))[0]

    assert ("".join(pieces), whole.text) == (text, text)


async def test_a_refusal_is_no_text(at_aimock, aimock, prompt):
    aimock.fail(400, code="content_policy_violation")

    pieces, error = await told(at_aimock.stream(prompt, (PICTURE,), timeout_s=10))

    assert (pieces, error.reason) == ([], "REFUSED")


@pytest.mark.parametrize(
    ("arm", "expected"),
    [
        (lambda llmock: llmock.rate_limit(retry_after=2.5), UpstreamRateLimited),
        (lambda llmock: llmock.fail(500), BackendUnavailable),
        (lambda llmock: llmock.fail(401), UpstreamAuth),
        (lambda llmock: llmock.context_overflow(), UnsupportedByModel),
    ],
    ids=["429", "500", "401", "context"],
)
async def test_what_fails_before_the_stream_fails_as_a_call_that_comes_whole(openai, llmock, prompt, arm, expected):
    arm(llmock)

    pieces, error = await told(openai.stream(prompt, (PICTURE,), timeout_s=10))

    assert (pieces, type(error)) == ([], expected)


@pytest.mark.parametrize("end", ["truncate", "disconnect"])
async def test_a_stream_without_its_end_is_a_cut_answer_with_an_estimated_bill(openai, llmock, prompt, end):
    llmock.reply(ANSWER)
    getattr(llmock, end)(after_chunks=8)

    pieces, error = await told(openai.stream(prompt, (PICTURE,), timeout_s=10))

    said = "".join(pieces)
    assert (type(error), error.estimated, 0 < len(said) < len(ANSWER)) == (BrokenOff, True, True)
    assert error.usage == Usage(input_text=5, input_image=1229, output=-(-len(said) // 4))


async def test_a_stream_cut_before_its_first_word_may_be_asked_for_again(openai, llmock, prompt):
    llmock.truncate(after_chunks=1)

    pieces, error = await told(openai.stream(prompt, (PICTURE,), timeout_s=10))

    assert (pieces, type(error), error.usage, error.estimated) == ([], BackendUnavailable, UNTOLD, True)


async def test_an_event_that_is_not_json_is_no_answer(openai, llmock, prompt):
    llmock.reply(ANSWER)
    llmock.corrupt(after_chunks=8)

    pieces, error = await told(openai.stream(prompt, (PICTURE,), timeout_s=10))

    assert (pieces != [], type(error), error.estimated) == (True, UnusableAnswer, True)


@pytest.mark.parametrize("after", [0, 8])
async def test_a_stall_ends_with_the_time(openai, llmock, prompt, after):
    llmock.reply(ANSWER)
    llmock.stall(after_chunks=after) if after else llmock.slow_first_token(30)

    pieces, error = await told(openai.stream(prompt, (PICTURE,), timeout_s=0.5))

    assert (type(error), error.usage.output > 0, pieces != []) == (DeadlineExceeded, bool(after), bool(after))


async def test_only_the_models_time_is_up_not_that_of_who_reads(openai, llmock, prompt):
    llmock.reply(ANSWER)
    llmock.stall(after_chunks=8)
    began = asyncio.get_running_loop().time()

    async with aclosing(openai.stream(prompt, (PICTURE,), timeout_s=0.3)) as stream:
        await anext(stream)
        await asyncio.sleep(0.5)
        read_s = asyncio.get_running_loop().time() - began
        _, error = await told(stream)

    assert (read_s >= 0.5, type(error)) == (True, DeadlineExceeded)


async def test_closing_a_stream_ends_it_at_the_server_too(start_tap, llmock, prompt):
    llmock.reply(ANSWER)
    llmock.stall(after_chunks=8)
    tap = await start_tap(llmock.url)
    async with connect(options(f"{tap.url}/v1")) as backend:
        async with aclosing(backend.stream(prompt, (PICTURE,), timeout_s=60)) as stream:
            await anext(stream)

        await asyncio.wait_for(tap.hung_up.wait(), 10)


async def test_cancelling_who_waits_for_a_piece_ends_it_at_the_server_too(start_tap, llmock, prompt):
    llmock.reply(ANSWER)
    llmock.stall(after_chunks=8)
    tap = await start_tap(llmock.url)
    began = asyncio.Event()

    async def read(backend):
        async for _ in backend.stream(prompt, (PICTURE,), timeout_s=60):
            began.set()

    async with connect(options(f"{tap.url}/v1")) as backend:
        task = asyncio.create_task(read(backend))
        await asyncio.wait_for(began.wait(), 10)

        task.cancel()

        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(tap.hung_up.wait(), 10)


async def test_many_streams_at_once_keep_their_words_apart(openai, llmock, prompt):
    llmock.reply(ANSWER, times=None)

    read = await asyncio.gather(*(told(openai.stream(prompt, (PICTURE,), timeout_s=60)) for _ in range(24)))

    assert ["".join(pieces[:-1]) for pieces, _ in read] == [ANSWER] * 24
