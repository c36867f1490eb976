"""Against two OpenAI-compatible servers that others wrote, llmock and aimock; a stand-in where neither can do it."""

from __future__ import annotations

import asyncio
import base64
from dataclasses import replace

import pytest
from pydantic import ValidationError
from structlog.testing import capture_logs

from gateway.backends.openai import Options, connect
from gateway.domain import Completion, Reasoning, ServiceTier
from gateway.errors import (
    BackendUnavailable,
    DeadlineExceeded,
    InvalidImage,
    TruncatedAnswer,
    UnsupportedByModel,
    UpstreamAccount,
    UpstreamAuth,
    UpstreamRateLimited,
)
from gateway.usage import Usage
from tests.fixtures.openai_calls import KEY, PICTURE, UNTOLD, failure, options

pytestmark = pytest.mark.usefixtures("unblocked_loop", "key")


async def test_the_cost_of_the_seed_comparison_comes_through_exactly(aimock, prompt):
    aimock.answer("a cat", usage={"input_tokens": 1400, "output_tokens": 138}, model="gpt-5.5-2026-04-23")

    async with connect(options(aimock.base_url)) as backend:
        answer = await backend.complete(prompt, (PICTURE,), timeout_s=10)

    assert answer == Completion(
        "a cat", Usage(input_text=171, input_image=1229, output=138), provider_model="gpt-5.5-2026-04-23"
    )


async def test_the_provider_can_find_a_call_by_the_gateways_request_id(aimock, prompt):
    aimock.answer("a cat")

    async with connect(options(aimock.base_url)) as backend:
        await backend.complete(prompt, (PICTURE,), timeout_s=10)

    (entry,) = aimock.journal()
    assert (entry["path"], entry["headers"]["x-client-request-id"]) == ("/v1/responses", "req-1")


async def test_an_incomplete_answer_without_details_was_cut_off(aimock, prompt):
    aimock.answer("a c", finishReason="length", usage={"input_tokens": 1400, "output_tokens": 256})

    async with connect(options(aimock.base_url)) as backend:
        error = await failure(backend, prompt)

    assert (type(error), error.usage.output, error.elsewhere) == (TruncatedAnswer, 256, False)


async def test_no_call_is_tried_twice(aimock, prompt):
    aimock.fail(503, message="overloaded")

    async with connect(options(aimock.base_url)) as backend:
        assert type(await failure(backend, prompt)) is BackendUnavailable

    assert len(aimock.journal()) == 1


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (400, "invalid_base64_image", InvalidImage),
        (400, "unsupported_value", UnsupportedByModel),
        (401, "invalid_api_key", UpstreamAuth),
        (404, "model_not_found", BackendUnavailable),
        (429, "insufficient_quota", UpstreamAccount),
        (429, "rate_limit_exceeded", UpstreamRateLimited),
        (500, "server_error", BackendUnavailable),
    ],
)
async def test_an_http_error_is_read_by_its_code_and_its_text_stays_here(aimock, prompt, status, code, expected):
    aimock.fail(status, message=f"you sent {KEY}", type="some_error", code=code)

    with capture_logs() as logs:
        async with connect(options(aimock.base_url)) as backend:
            error = await failure(backend, prompt)

    assert type(error) is expected
    assert KEY not in f"{error!r} {error.metadata} {logs}"


async def test_the_request_arrives_as_it_was_written(openai, llmock, prompt):
    llmock.reply("a cat")

    await openai.complete(prompt, (PICTURE,), timeout_s=10)

    (image, text) = llmock.last_request.body["input"][0]["content"]
    assert base64.b64decode(image["image_url"].removeprefix("data:image/jpeg;base64,")) == PICTURE.data
    assert text == {"type": "input_text", "text": prompt.user}


async def test_a_schema_gets_an_answer_of_its_form(openai, prompt):
    schema = {
        "type": "object",
        "properties": {"label": {"enum": ["cat", "dog"]}},
        "required": ["label"],
        "additionalProperties": False,
    }

    answer = await openai.complete(replace(prompt, schema=schema, schema_name="pick"), (PICTURE,), timeout_s=10)

    assert answer.text in ('{"label": "cat"}', '{"label": "dog"}')


async def test_a_server_that_tells_no_tier_is_billed_by_the_one_asked_for(openai, prompt):
    answer = await openai.complete(replace(prompt, service_tier=ServiceTier.PRIORITY), (PICTURE,), timeout_s=10)

    assert answer.service_tier is ServiceTier.PRIORITY


async def test_a_rate_limit_says_when_to_try_again(openai, llmock, prompt):
    llmock.rate_limit(retry_after=2.5)

    error = await failure(openai, prompt)

    assert (type(error), error.retry_after_s) == (UpstreamRateLimited, 2.5)


async def test_a_request_longer_than_the_context_is_none_for_this_model(openai, llmock, prompt):
    llmock.context_overflow()

    error = await failure(openai, prompt)

    assert (type(error), error.metadata, error.elsewhere) == (UnsupportedByModel, {"limit": "context"}, True)


async def test_llmock_finds_no_fault_with_how_failures_are_taken(openai, llmock, prompt):
    llmock.rate_limit(retry_after=1).fail(500).context_overflow()
    for question in ("first", "second", "third"):
        await failure(openai, replace(prompt, user=question))

    llmock.assert_resilient()


async def test_many_calls_at_once_are_all_answered(openai, llmock, prompt):
    llmock.reply("a cat", times=None)

    answers = await asyncio.gather(*(openai.complete(prompt, (PICTURE,), timeout_s=60) for _ in range(24)))

    assert [answer.text for answer in answers] == ["a cat"] * 24


async def test_a_call_that_runs_out_of_time_is_billed_by_estimate(openai, llmock, prompt):
    llmock.delay(5)

    error = await failure(openai, replace(prompt, service_tier=ServiceTier.FLEX), timeout_s=0.3)

    assert (type(error), error.usage, error.service_tier) == (DeadlineExceeded, UNTOLD, "flex")


async def test_a_call_without_time_left_is_the_deadline_too(openai, prompt):
    assert type(await failure(openai, prompt, timeout_s=0)) is DeadlineExceeded


async def test_reasoning_is_asked_for_and_sampling_then_left_out(openai, llmock, prompt):
    await openai.complete(replace(prompt, reasoning=Reasoning.LOW, temperature=0.5), (PICTURE,), timeout_s=10)

    assert llmock.last_request.body["reasoning"] == {"effort": "low"}
    assert "temperature" not in llmock.last_request.body


@pytest.mark.parametrize(
    "raw",
    [
        {"model": ""},
        {"base_url": "not a url"},
        {"base_url": "ftp://host/v1"},
        {"connect_timeout_s": 0},
        {"max_connections": 0},
        {"keepalive_expiry_s": -1},
        {"api_key": "sk-in-the-settings"},
    ],
)
def test_wrong_options_are_refused(raw):
    with pytest.raises(ValidationError):
        Options.model_validate(raw)


async def test_the_key_is_in_no_repr(llmock):
    settings = options(llmock.base_url())
    async with connect(settings) as backend:
        assert KEY not in f"{settings!r} {settings.api_key()!r} {backend!r}"
