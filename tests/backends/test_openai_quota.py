"""What OpenAI says is left of its rate limits; llmock, which others wrote, enforces and tells some too."""

from __future__ import annotations

from contextlib import aclosing

import httpx2
import pytest

from gateway.backends._openai_quota import quotas
from gateway.backends.openai import connect
from gateway.domain import QuotaKind, UpstreamQuota
from gateway.errors import UpstreamRateLimited
from tests.fixtures.openai_calls import PICTURE, failure, options

pytestmark = pytest.mark.usefixtures("unblocked_loop", "key")


def of_requests(remaining, limit=None):
    return UpstreamQuota(QuotaKind.REQUESTS, remaining, limit)


def header(**values):
    return httpx2.Headers({f"x-ratelimit-{name.replace('_', '-')}": value for name, value in values.items()})


async def test_each_answer_tells_what_is_left_of_requests_and_tokens(llmock, prompt):
    llmock.limits(rpm=5, tpm=1_000_000)
    told = []

    async with connect(options(llmock.base_url()), on_quota=told.append) as backend:
        await backend.complete(prompt, (PICTURE,), timeout_s=10)

    requests, tokens = told
    assert requests == of_requests(4, 5)
    assert (tokens.kind, tokens.limit, 0 < tokens.remaining < 1_000_000) == (QuotaKind.TOKENS, 1_000_000, True)


async def test_a_stream_tells_it_before_its_first_word(llmock, prompt):
    llmock.limits(rpm=5)
    told = []

    async with (
        connect(options(llmock.base_url()), on_quota=told.append) as backend,
        aclosing(backend.stream(prompt, (PICTURE,), timeout_s=10)) as pieces,
    ):
        await anext(pieces)
        at_first = list(told)

    assert at_first == [of_requests(4, 5)]


async def test_a_call_that_was_one_too_many_tells_it_too(llmock, prompt):
    llmock.limits(rpm=1)
    told = []

    async with connect(options(llmock.base_url()), on_quota=told.append) as backend:
        await backend.complete(prompt, (PICTURE,), timeout_s=10)
        error = await failure(backend, prompt)

    assert (type(error), told) == (UpstreamRateLimited, [of_requests(0, 1)] * 2)


async def test_a_server_without_limits_tells_nothing(aimock, prompt):
    aimock.answer("a cat")
    told = []

    async with connect(options(aimock.base_url), on_quota=told.append) as backend:
        await backend.complete(prompt, (PICTURE,), timeout_s=10)

    assert told == []


def test_names_are_in_any_case():
    assert list(quotas(httpx2.Headers({"X-RateLimit-Remaining-Requests": "7"}))) == [of_requests(7)]


@pytest.mark.parametrize("value", ["", "-1", "1.5", "soon", "9" * 16, "1e3", "\u0664", "+5", " 5"])
def test_what_is_no_count_is_as_if_it_were_not_there(value):
    # As a mapping, since what is not ASCII is no header.
    assert list(quotas({"x-ratelimit-remaining-requests": value, "x-ratelimit-limit-requests": "9"})) == []


@pytest.mark.parametrize("limit", [{}, {"limit_requests": "-1"}])
def test_what_is_left_counts_without_the_limit(limit):
    assert list(quotas(header(remaining_requests="7", **limit))) == [of_requests(7)]


def test_a_limit_alone_tells_nothing():
    assert list(quotas(header(limit_requests="9"))) == []


def test_limits_of_other_kinds_are_left_out():
    # Seen at OpenAI: https://community.openai.com/t/1268905
    assert list(quotas(header(remaining_tokens_usage_based="159976", remaining_requests="0"))) == [of_requests(0)]
