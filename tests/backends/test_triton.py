from __future__ import annotations

import asyncio
import itertools

import grpc
import pytest
from pydantic import ValidationError

from gateway.backends.triton import Options, connect
from gateway.domain import Completion
from gateway.errors import (
    BrokenOff,
    TruncatedAnswer,
    UnusableAnswer,
)
from gateway.usage import Usage
from tests.fixtures.kserve import (
    empty_final,
    fails,
    part,
    replies,
    strings,
    whole,
)
from tests.fixtures.triton_calls import failure, hang

pytestmark = pytest.mark.usefixtures("unblocked_loop")
INTERNALS = "shm region triton_python_backend_shm_42"
Code = grpc.StatusCode


async def test_a_whole_answer_comes_back_with_its_usage(scripted_triton, prompt, images):
    assert await scripted_triton.complete(prompt, images, timeout_s=5) == Completion(
        "a cat", Usage(input_text=32, input_image=268, output=12), provider_model="served/3"
    )


async def test_the_model_hears_the_gateways_request_id_and_deadline(scripted_triton, kserve, prompt, images):
    await scripted_triton.complete(prompt, images, timeout_s=5)

    assert kserve.requests[0].id == "req-1"
    assert kserve.metadata[0]["triton_grpc_error"] == "true"
    assert kserve.requests[0].parameters["timeout"].int64_param == 5_000_000
    assert 0 < kserve.times_left_s[0] < 6


async def test_deltas_are_put_together(scripted_triton, kserve, prompt, images):
    kserve.script = replies(
        part("a c", tokens=(300, 1)),
        part("ät", tokens=(300, 2)),
        part("", finish_reason="stop", tokens=(300, 3), final=True),
    )

    answer = await scripted_triton.complete(prompt, images, timeout_s=5)

    assert (answer.text, answer.usage.output) == ("a cät", 3)


async def test_an_empty_final_response_ends_an_answer(scripted_triton, kserve, prompt, images):
    kserve.script = replies(part("a cat", finish_reason="stop", tokens=(300, 3)), empty_final())

    answer = await scripted_triton.complete(prompt, images, timeout_s=5)

    assert (answer.text, answer.usage.input_total, answer.usage.output) == ("a cat", 300, 3)


async def test_a_finished_answer_needs_no_final_flag(scripted_triton, kserve, prompt, images):
    kserve.script = replies(part("a cat", finish_reason="stop", tokens=(300, 3)))

    assert (await scripted_triton.complete(prompt, images, timeout_s=5)).text == "a cat"


async def test_time_to_first_token_is_when_the_first_of_several_parts_came(kserve, prompt, images):
    kserve.script = replies(part(""), part("a "), part("cat", finish_reason="stop", final=True))
    ticks = itertools.count(step=0.25)  # Read at the start, before sending, and once a part.

    async with connect(Options(address=kserve.address, model="gemma4"), clock=lambda: next(ticks)) as backend:
        answer = await backend.complete(prompt, images, timeout_s=5)

    assert answer.time_to_first_token_s == 0.75


async def test_time_to_first_token_of_an_answer_in_one_part_is_the_model_s_own(scripted_triton, kserve, prompt, images):
    kserve.script = replies(whole(ttft_us=125_000))

    assert (await scripted_triton.complete(prompt, images, timeout_s=5)).time_to_first_token_s == 0.125


async def test_an_answer_in_one_part_says_nothing_about_its_first_token(scripted_triton, prompt, images):
    assert (await scripted_triton.complete(prompt, images, timeout_s=5)).time_to_first_token_s is None


async def test_a_model_that_counts_no_tokens_gives_an_estimate(scripted_triton, kserve, prompt, images):
    kserve.script = replies(part("a cat", finish_reason="stop", tokens=None))

    answer = await scripted_triton.complete(prompt, images, timeout_s=5)

    assert (answer.usage, answer.estimated) == (Usage(input_image=268), True)


async def test_a_stream_that_ends_without_a_finish_reason_was_cut_off(scripted_triton, kserve, prompt, images):
    kserve.script = replies(part("a c", tokens=(300, 2)), empty_final())

    error = await failure(scripted_triton, prompt, images)

    assert (type(error), error.elsewhere) == (BrokenOff, True)
    assert error.usage == Usage(input_text=32, input_image=268, output=2)


def _not_text(tokens):
    reply = part(finish_reason="stop", tokens=tokens, final=True)
    reply.infer_response.raw_output_contents[0] = strings(b"\xff\xfe")
    return reply


@pytest.mark.parametrize(
    ("last", "kind"),
    [
        (lambda _: empty_final(), BrokenOff),
        (lambda tokens: part("", finish_reason="length", tokens=tokens, final=True), TruncatedAnswer),
        (_not_text, UnusableAnswer),
    ],
    ids=["broken off", "at the limit", "not text"],
)
@pytest.mark.parametrize("tokens", [None, (300, 2)], ids=["untold", "told"])
async def test_a_failure_says_whether_the_model_told_what_it_used(
    scripted_triton, kserve, prompt, images, last, kind, tokens
):
    kserve.script = replies(part("a c", tokens=tokens), last(tokens))

    error = await failure(scripted_triton, prompt, images)

    used = Usage(input_image=268) if tokens is None else Usage(input_text=32, input_image=268, output=2)
    assert (type(error), error.usage, error.estimated) == (kind, used, tokens is None)


async def test_an_answer_at_the_token_limit_is_cut_off_everywhere(scripted_triton, kserve, prompt, images):
    kserve.script = replies(part("a c", finish_reason="length", tokens=(300, 256), final=True))

    error = await failure(scripted_triton, prompt, images)

    assert (type(error), error.elsewhere) == (TruncatedAnswer, False)
    assert error.usage == Usage(input_text=32, input_image=268, output=256)


async def test_an_answer_that_is_not_utf8_is_unusable_but_billed(scripted_triton, kserve, prompt, images):
    broken = whole(tokens=(300, 12))
    broken.infer_response.raw_output_contents[0] = strings(b"\xff\xfe")
    kserve.script = replies(broken)

    error = await failure(scripted_triton, prompt, images)

    assert (type(error), error.usage.output) == (UnusableAnswer, 12)


async def test_a_whole_answer_survives_a_bad_end_of_its_stream(scripted_triton, kserve, prompt, images):
    kserve.script = fails(Code.INTERNAL, INTERNALS, whole())

    assert (await scripted_triton.complete(prompt, images, timeout_s=5)).text == "a cat"


async def test_cancelling_a_call_cancels_its_stream(scripted_triton, kserve, prompt, images):
    kserve.script = hang
    call = asyncio.create_task(scripted_triton.complete(prompt, images, timeout_s=60))
    await kserve.arrived.wait()

    call.cancel()

    with pytest.raises(asyncio.CancelledError):
        await call
    await asyncio.wait_for(kserve.cancelled.wait(), 5)


async def test_one_connection_serves_many_calls_at_once(scripted_triton, kserve, prompt, images):
    waiting = asyncio.Barrier(32)

    async def together(request, _context):
        await waiting.wait()
        yield whole(request.id)

    kserve.script = together

    answers = await asyncio.gather(*(scripted_triton.complete(prompt, images, timeout_s=30) for _ in range(32)))

    assert [answer.text for answer in answers] == ["req-1"] * 32


@pytest.mark.parametrize(
    "raw",
    [
        {"model": ""},
        {"model": "m", "address": ""},
        {"model": "m", "keepalive_s": 1},
        {"model": "m", "max_message_mib": 0},
        {"model": "m", "ready_timeout_s": 0},
        {"model": "m", "adress": "typo"},
        {"model": "m", "tls": {"certificate": "typo"}},
        {"model": "m", "tls": {"cert": "cert.pem"}},
    ],
)
def test_wrong_options_are_refused(raw):
    with pytest.raises(ValidationError):
        Options.model_validate(raw)
