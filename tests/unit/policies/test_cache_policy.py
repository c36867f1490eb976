from __future__ import annotations

import asyncio
from dataclasses import replace

from gateway.cache import StoreFailed
from gateway.cache.behind import WriteBehind
from gateway.domain import Attempt, CacheOutcome, CachePolicy, Outcome
from gateway.errors import CostAboveLimit, InvalidImage, Refused
from tests.fixtures.cached_model import Upstream, started

HIT, MISS = CacheOutcome.HIT, CacheOutcome.MISS


async def test_the_record_of_the_first_call_reads_as_without_a_cache(cached, upstream, ask):
    asked = ask()
    asked.trace.attempts.append(Attempt("before", Outcome.FAILED, "X", cost_nano_usd=2))
    calls = started(cached(), asked)
    await upstream.end()
    await calls[0]

    assert [attempt.model for attempt in asked.trace.attempts] == ["before", "m"]
    assert asked.trace.upstream_s == 2.0
    assert [attempt.model for attempt in upstream.asked[0].trace.attempts] == ["before", "m"]


async def test_a_call_after_it_is_a_hit_without_an_attempt(cached, upstream, ask):
    made = cached()
    first = started(made, ask())
    await upstream.end()
    await first[0]
    asked = ask()

    answer = await made.answer(asked)

    assert (answer.completion.text, asked.trace.cache, asked.trace.attempts) == ("text", HIT, [])


async def test_a_failure_is_not_kept(cached, upstream, ask):
    made = cached()
    calls = started(made, ask())
    await upstream.until_asked(1)
    await upstream.end(Refused("m"))
    await asyncio.wait(calls)
    (again,) = started(made, ask())
    await upstream.until_asked(2)
    await upstream.end()

    assert (await again).completion.text == "text"


class Reader:
    """Stands in for a caller who reads text as it is written."""

    committed = False

    def __init__(self):
        self.written = []

    async def write(self, text):
        self.written.append(text)


async def test_what_is_read_as_it_is_written_is_never_shared_but_kept(cached, upstream, ask):
    made = cached()
    calls = started(made, replace(ask(), sink=Reader()), replace(ask(), sink=Reader()), ask())
    await upstream.until_asked(3)
    for call in range(3):
        await upstream.end(call=call)
    await asyncio.gather(*calls)
    reader = Reader()
    asked = replace(ask(), sink=reader)

    answer = await made.answer(asked)

    assert (answer.completion.text, asked.trace.cache, reader.written) == ("text", HIT, [])


async def test_a_bypass_neither_joins_nor_fills(cached, upstream, ask, cache_outcomes):
    made = cached()
    calls = started(made, ask(), ask(cache=CachePolicy.BYPASS))
    await upstream.until_asked(2)
    await upstream.end("bypassed", call=0)
    await upstream.end("kept", call=1)
    await asyncio.gather(*calls)

    texts = [each.completion.text for each in await asyncio.gather(*started(made, ask()))]

    assert (texts, cache_outcomes("bypass", "miss", "hit")) == (["kept"], [1, 1, 1])


class Broken:
    """Stands in for a store that is down."""

    async def get_or_claim(self, claim):
        raise StoreFailed("down")

    async def put(self, key, value, claim):
        raise StoreFailed("down")


async def test_a_store_that_is_down_is_a_miss(cached, upstream, ask, cache_outcomes, clock):
    made = cached(store=WriteBehind(Broken(), clock=clock, patience_s=1.0))
    asked = ask()
    calls = started(made, asked)
    await upstream.until_asked(1)
    await upstream.end()

    assert ((await calls[0]).completion.text, asked.trace.cache) == ("text", MISS)
    # Once for the look-up, and once for the answer that was not kept.
    assert cache_outcomes("error", "miss") == [2, 0]


async def test_bytes_that_are_no_answer_are_a_miss_and_replaced(cached, upstream, ask, memory_store, cache_outcomes):
    await memory_store.put(b"xNone", b"something else")
    calls = started(cached(), ask())
    await upstream.until_asked(1)
    await upstream.end()
    await calls[0]

    assert (await memory_store.get(b"xNone"), cache_outcomes("error")) == (b"kept:text", [1])


async def test_a_picture_that_cannot_be_looked_at_goes_to_the_model_as_without_a_cache(
    cached, upstream, ask, cache_outcomes
):
    async def digest(_):
        raise InvalidImage("damaged", limit="decode")

    asked = ask()
    calls = started(cached(digest=digest), asked)
    await upstream.until_asked(1)
    await upstream.end()

    assert ((await calls[0]).completion.text, asked.trace.cache, cache_outcomes("error")) == ("text", None, [1])


async def test_a_call_made_to_fit_its_cost_is_another_call(cached, upstream, ask):
    def fit(asked, allowance):
        return replace(asked, options=replace(asked.options, max_output_tokens=allowance))

    made = cached(fit=fit)
    capped = ask(max_cost_nano_usd=100)
    capped.trace.attempts.append(Attempt("before", Outcome.FAILED, "X", cost_nano_usd=40))
    calls = started(made, capped, ask())
    await upstream.until_asked(2)
    await upstream.end("short", call=0)
    await upstream.end("long", call=1)
    await asyncio.gather(*calls)

    assert (await made.answer(ask())).completion.text == "long"
    assert (await made.answer(ask(max_cost_nano_usd=60))).completion.text == "short"


async def test_a_call_that_cannot_be_made_to_fit_may_yet_be_a_hit(cached, upstream, ask):
    def fit(_, __):
        raise CostAboveLimit("m")

    made = cached(fit=fit)
    calls = started(made, ask())
    await upstream.end()
    await calls[0]

    assert (await made.answer(ask(max_cost_nano_usd=1))).completion.text == "text"


async def test_an_answer_that_had_less_to_fit_into_after_a_paid_failure_is_not_kept(
    cached, upstream, ask, memory_store
):
    async def answer(asked):
        asked.trace.attempts.append(Attempt("m", Outcome.FAILED, "X", cost_nano_usd=5))
        return await Upstream.answer(upstream, asked)

    upstream.answer = answer
    calls = started(cached(), ask(max_cost_nano_usd=100))
    await upstream.until_asked(1)
    await upstream.end()
    await calls[0]

    assert await memory_store.get(b"xNone") is None
