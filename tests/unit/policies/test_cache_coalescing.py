"""Equal calls in flight: one is made, and each caller is on its own."""

from __future__ import annotations

import asyncio
import gc
import weakref
from dataclasses import replace

import pytest

from gateway.domain import CacheOutcome, CachePolicy, Outcome, ServiceTier, Urgency
from gateway.errors import (
    BackendUnavailable,
    BudgetExceeded,
    CostAboveLimit,
    DeadlineExceeded,
    DeadlineTooShort,
    Draining,
    InvalidImage,
    Overloaded,
    RateLimited,
    Refused,
    StoreUnavailable,
    TruncatedAnswer,
    UnsupportedByModel,
    UnusableAnswer,
    UpstreamAccount,
    UpstreamAuth,
    UpstreamRateLimited,
)
from gateway.usage import Usage
from tests.fixtures.cached_model import started, turns

MISS, COALESCED = CacheOutcome.MISS, CacheOutcome.COALESCED


async def test_a_hundred_equal_calls_are_one_and_each_has_an_answer_of_its_own(cached, upstream, ask, cache_outcomes):
    asks = [replace(ask(), principal=f"p{i}", request_id=str(i)) for i in range(100)]
    calls = started(cached(), *asks)
    await upstream.end()

    answers = await asyncio.gather(*calls)

    assert [each.principal for each in upstream.asked] == ["p0"]
    assert [answer.completion.text for answer in answers] == ["text"] * 100
    assert len({id(answer.response) for answer in answers}) == 100
    assert [each.trace.cache for each in asks] == [MISS, *[COALESCED] * 99]
    assert [sum(attempt.cost_nano_usd for attempt in each.trace.attempts) for each in asks] == [7, *[0] * 99]
    assert cache_outcomes("miss", "coalesced", "hit") == [1, 99, 0]


async def test_when_the_first_caller_goes_the_call_goes_on_for_those_who_wait(cached, upstream, ask):
    first, second = ask(), ask()
    leader, follower = started(cached(), first, second)
    await upstream.until_asked(1)
    await turns()
    leader.cancel()
    await asyncio.wait({leader})
    await upstream.end()

    assert ((await follower).completion.text, second.trace.cache) == ("text", COALESCED)
    assert (leader.cancelled(), upstream.cancelled, len(upstream.asked)) == (True, 0, 1)
    # Its record was closed when it went.
    assert (first.trace.attempts, first.trace.upstream_s) == ([], 0.0)


async def test_when_the_last_caller_goes_the_call_is_cancelled_and_over(cached, upstream, ask):
    asks = [ask(), ask()]
    leader, follower = started(cached(), *asks)
    await upstream.until_asked(1)
    await turns()
    leader.cancel()
    await asyncio.wait({leader})
    follower.cancel()
    await asyncio.wait({follower})

    assert upstream.cancelled == 1


async def test_what_a_cancelled_call_cost_is_on_its_record_when_it_ends(cached, upstream, ask):
    asked = ask()
    (call,) = started(cached(), asked)
    await upstream.until_asked(1)
    call.cancel()
    await asyncio.wait({call})

    assert [attempt.reason for attempt in asked.trace.attempts] == ["CANCELLED"]


async def test_nobody_joins_a_call_that_is_being_cancelled(cached, upstream, ask):
    made = cached()
    (first,) = started(made, ask())
    await upstream.until_asked(1)
    first.cancel()
    (second,) = started(made, ask())
    await upstream.until_asked(2)
    await upstream.end()

    assert (await second).completion.text == "text"
    assert first.cancelled()


LIMITS_OF_THE_FIRST = [
    DeadlineExceeded("m"),
    DeadlineTooShort("m"),
    BudgetExceeded("m", subject="principal:a", retry_after_s=1.0),
    RateLimited("m", subject="principal:a", retry_after_s=1.0),
    StoreUnavailable("m"),
    CostAboveLimit("m"),
    Overloaded("m"),
    Draining("m"),
    InvalidImage("m", limit="decode"),
]


@pytest.mark.parametrize("failure", LIMITS_OF_THE_FIRST, ids=lambda each: each.reason)
async def test_what_the_first_caller_was_refused_says_nothing_about_the_others(cached, upstream, ask, failure):
    asks = [replace(ask(), principal=name) for name in ("a", "b", "c")]
    calls = started(cached(), *asks)
    await upstream.until_asked(1)
    await upstream.end(failure)
    await upstream.until_asked(2)
    await upstream.end()

    ends = await asyncio.gather(*calls, return_exceptions=True)

    assert ends[0] is failure
    assert [end.completion.text for end in ends[1:]] == ["text", "text"]
    assert [each.principal for each in upstream.asked] == ["a", "b"]
    assert [each.trace.cache for each in asks[1:]] == [MISS, COALESCED]
    assert [attempt.cost_nano_usd for attempt in asks[1].trace.attempts] == [7]


OF_THE_MODEL = [
    BackendUnavailable,
    Refused,
    TruncatedAnswer,
    UnsupportedByModel,
    UnusableAnswer,
    UpstreamAccount,
    UpstreamAuth,
    UpstreamRateLimited,
]


@pytest.mark.parametrize("kind", OF_THE_MODEL, ids=lambda each: each.reason)
async def test_what_the_model_said_is_shared_and_charged_once(cached, upstream, ask, kind):
    asks = [ask() for _ in range(3)]
    calls = started(cached(), *asks)
    await upstream.until_asked(1)
    await upstream.end(kind("m", metadata={"a": "b"}, retry_after_s=2.0, usage=Usage(output=9)))

    ends = await asyncio.gather(*calls, return_exceptions=True)

    assert {type(end) for end in ends} == {kind}
    assert [end.usage for end in ends] == [Usage(output=9), None, None]
    assert [end.retry_after_s for end in ends] == [2.0] * 3
    # Each is its own to write on.
    assert len({id(end.metadata) for end in ends}) == 3
    assert [(each.outcome, each.reason) for each in asks[1].trace.attempts] == [(Outcome.SKIPPED, kind.reason)]
    assert (len(upstream.asked), asks[1].trace.attempts[0].cost_nano_usd) == (1, 0)


async def test_a_caller_who_has_less_time_stops_waiting_and_the_others_do_not(cached, upstream, ask):
    hasty = ask(seconds=0.02)
    leader, follower = started(cached(), ask(), hasty)

    with pytest.raises(DeadlineExceeded):
        await follower
    await upstream.end()

    assert ((await leader).completion.text, len(upstream.asked)) == ("text", 1)


@pytest.mark.parametrize(
    "other",
    [
        {"options": {"urgency": Urgency.BULK}},
        {"options": {"service_tier": ServiceTier.FLEX}},
        {"last_resort": True},
        {"has_next": True},
    ],
    ids=str,
)
async def test_calls_that_the_model_would_treat_otherwise_are_not_waited_for(cached, upstream, ask, other):
    different = replace(ask(**other.pop("options", {})), **other)
    calls = started(cached(), different, ask())
    await upstream.until_asked(2)
    await upstream.end(call=0)
    await upstream.end(call=1)

    assert len(await asyncio.gather(*calls)) == 2


async def test_a_refresh_asks_anew_and_is_what_stays_whichever_ends_first(cached, upstream, ask):
    made = cached()
    older = started(made, ask())
    await upstream.until_asked(1)
    newer = started(made, ask(cache=CachePolicy.REFRESH))
    await upstream.until_asked(2)
    joined = started(made, ask())
    await upstream.end("new", call=1)
    await upstream.end("old", call=0)

    texts = [each.completion.text for each in await asyncio.gather(*older, *newer, *joined)]

    assert texts == ["old", "new", "new"]
    assert (await made.answer(ask())).completion.text == "new"


async def test_two_refreshes_are_two_calls(cached, upstream, ask):
    calls = started(cached(), *(ask(cache=CachePolicy.REFRESH) for _ in range(2)))
    await upstream.until_asked(2)
    await upstream.end(call=0)
    await upstream.end(call=1)

    assert len(await asyncio.gather(*calls)) == 2


async def test_a_failed_call_leaves_nothing_for_the_collector(cached, upstream, ask):
    async def failing():
        queries = [type(ask().query)() for _ in range(2)]
        calls = started(cached(), *(replace(ask(), query=query) for query in queries))
        await upstream.until_asked(1)
        await upstream.end(BackendUnavailable("down"))
        await asyncio.gather(*calls, return_exceptions=True)
        upstream.forget()
        return [weakref.ref(query) for query in queries]

    gc.collect()
    gc.disable()
    try:
        left = await failing()
        await turns()
        assert [each() for each in left] == [None, None]
    finally:
        gc.enable()
