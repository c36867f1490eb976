from __future__ import annotations

import asyncio
import gc
import weakref
from dataclasses import replace
from random import Random

import pytest

from gateway.cache import StoreFailed
from gateway.cache.behind import WriteBehind
from gateway.cache.memory import MemoryStore
from gateway.domain import (
    Answer,
    Attempt,
    CacheOutcome,
    CachePolicy,
    Completion,
    ImagePlan,
    Outcome,
    ServiceTier,
    Urgency,
)
from gateway.errors import (
    BackendUnavailable,
    BudgetExceeded,
    CostAboveLimit,
    DeadlineExceeded,
    DeadlineTooShort,
    Draining,
    GatewayError,
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
from gateway.policies.cache import Cache, Codec
from gateway.usage import Usage

HIT, MISS, COALESCED = CacheOutcome.HIT, CacheOutcome.MISS, CacheOutcome.COALESCED


class Upstream:
    """Stands in for a model: each call waits until the test says how it ends, and puts an attempt on its record."""

    def __init__(self):
        self.asked = []
        self.cancelled = 0
        self._ends = []

    async def answer(self, ask):
        self.asked.append(ask)
        end = asyncio.get_running_loop().create_future()
        self._ends.append(end)
        try:
            text = await end
        except asyncio.CancelledError:
            self.cancelled += 1
            ask.trace.attempts.append(Attempt("m", Outcome.FAILED, "CANCELLED", cost_nano_usd=1))
            raise
        if isinstance(text, BaseException):
            ask.trace.attempts.append(Attempt("m", Outcome.FAILED, "X", cost_nano_usd=3))
            raise text
        ask.trace.attempts.append(Attempt("m", Outcome.OK, cost_nano_usd=7))
        ask.trace.upstream_s += 2.0
        return Answer(object(), Completion(text, Usage(output=5)), "m", "fake", "1", ImagePlan(1, 1, 0), 0)

    async def ready(self):
        return True

    async def until_asked(self, times):
        async with asyncio.timeout(10):
            while len(self.asked) < times:  # noqa: ASYNC110  the test's own loop turns
                await asyncio.sleep(0)

    async def end(self, text="text", call=-1):
        await turns()
        self._ends[call].set_result(text)
        await turns()

    def forget(self):
        self.asked.clear()
        self._ends.clear()


async def turns():
    """Lets every task do what it can."""
    for _ in range(50):
        await asyncio.sleep(0)


def _decode(_, value):
    if not value.startswith(b"kept:"):
        raise ValueError("not an answer")
    text = value.removeprefix(b"kept:").decode()
    return Answer(object(), Completion(text, Usage()), "m", "fake", "1", ImagePlan(1, 1, 0), 0)


CODEC = Codec(lambda answer: f"kept:{answer.completion.text}".encode(), _decode)


@pytest.fixture
def upstream():
    return Upstream()


@pytest.fixture
def memory(clock):
    return MemoryStore(ttl_s=60, max_bytes=1 << 20, clock=clock)


@pytest.fixture
def cache(upstream, memory, metrics, clock):
    async def digest(image):
        return image.data

    def make(**given):
        parts = {
            "name": "m",
            "store": WriteBehind(memory, clock=clock, patience_s=1.0),
            "digest": digest,
            "key": lambda ask, pictures: b"".join(pictures) + str(ask.options.max_output_tokens).encode(),
            "codec": CODEC,
            "fit": lambda ask, _: ask,
            "metrics": metrics,
            "clock": clock,
        }
        return Cache(upstream, **(parts | given))

    return make


@pytest.fixture
def outcomes(sample):
    return lambda *names: [sample("vision_gateway_cache_total", rpc="Caption", outcome=name) or 0 for name in names]


def started(cache, *asks):
    return [asyncio.create_task(cache.answer(each)) for each in asks]


async def test_a_hundred_equal_calls_are_one_and_each_has_an_answer_of_its_own(cache, upstream, ask, outcomes):
    asks = [replace(ask(), principal=f"p{i}", request_id=str(i)) for i in range(100)]
    calls = started(cache(), *asks)
    await upstream.end()

    answers = await asyncio.gather(*calls)

    assert [each.principal for each in upstream.asked] == ["p0"]
    assert [answer.completion.text for answer in answers] == ["text"] * 100
    assert len({id(answer.response) for answer in answers}) == 100
    assert [each.trace.cache for each in asks] == [MISS, *[COALESCED] * 99]
    assert [sum(attempt.cost_nano_usd for attempt in each.trace.attempts) for each in asks] == [7, *[0] * 99]
    assert outcomes("miss", "coalesced", "hit") == [1, 99, 0]


async def test_the_record_of_the_first_call_reads_as_without_a_cache(cache, upstream, ask):
    asked = ask()
    asked.trace.attempts.append(Attempt("before", Outcome.FAILED, "X", cost_nano_usd=2))
    calls = started(cache(), asked)
    await upstream.end()
    await calls[0]

    assert [attempt.model for attempt in asked.trace.attempts] == ["before", "m"]
    assert asked.trace.upstream_s == 2.0
    assert [attempt.model for attempt in upstream.asked[0].trace.attempts] == ["before", "m"]


async def test_a_call_after_it_is_a_hit_without_an_attempt(cache, upstream, ask):
    made = cache()
    first = started(made, ask())
    await upstream.end()
    await first[0]
    asked = ask()

    answer = await made.answer(asked)

    assert (answer.completion.text, asked.trace.cache, asked.trace.attempts) == ("text", HIT, [])


async def test_when_the_first_caller_goes_the_call_goes_on_for_those_who_wait(cache, upstream, ask):
    first, second = ask(), ask()
    leader, follower = started(cache(), first, second)
    await upstream.until_asked(1)
    await turns()
    leader.cancel()
    await asyncio.wait({leader})
    await upstream.end()

    assert ((await follower).completion.text, second.trace.cache) == ("text", COALESCED)
    assert (leader.cancelled(), upstream.cancelled, len(upstream.asked)) == (True, 0, 1)
    # Its record was closed when it went.
    assert (first.trace.attempts, first.trace.upstream_s) == ([], 0.0)


async def test_when_the_last_caller_goes_the_call_is_cancelled_and_over(cache, upstream, ask):
    asks = [ask(), ask()]
    leader, follower = started(cache(), *asks)
    await upstream.until_asked(1)
    await turns()
    leader.cancel()
    await asyncio.wait({leader})
    follower.cancel()
    await asyncio.wait({follower})

    assert upstream.cancelled == 1


async def test_what_a_cancelled_call_cost_is_on_its_record_when_it_ends(cache, upstream, ask):
    asked = ask()
    (call,) = started(cache(), asked)
    await upstream.until_asked(1)
    call.cancel()
    await asyncio.wait({call})

    assert [attempt.reason for attempt in asked.trace.attempts] == ["CANCELLED"]


async def test_nobody_joins_a_call_that_is_being_cancelled(cache, upstream, ask):
    made = cache()
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
async def test_what_the_first_caller_was_refused_says_nothing_about_the_others(cache, upstream, ask, failure):
    asks = [replace(ask(), principal=name) for name in ("a", "b", "c")]
    calls = started(cache(), *asks)
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
async def test_what_the_model_said_is_shared_and_charged_once(cache, upstream, ask, kind):
    asks = [ask() for _ in range(3)]
    calls = started(cache(), *asks)
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


async def test_a_failure_is_not_kept(cache, upstream, ask):
    made = cache()
    calls = started(made, ask())
    await upstream.until_asked(1)
    await upstream.end(Refused("m"))
    await asyncio.wait(calls)
    (again,) = started(made, ask())
    await upstream.until_asked(2)
    await upstream.end()

    assert (await again).completion.text == "text"


async def test_a_caller_who_has_less_time_stops_waiting_and_the_others_do_not(cache, upstream, ask):
    hasty = ask(seconds=0.02)
    leader, follower = started(cache(), ask(), hasty)

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
async def test_calls_that_the_model_would_treat_otherwise_are_not_waited_for(cache, upstream, ask, other):
    different = replace(ask(**other.pop("options", {})), **other)
    calls = started(cache(), different, ask())
    await upstream.until_asked(2)
    await upstream.end(call=0)
    await upstream.end(call=1)

    assert len(await asyncio.gather(*calls)) == 2


class Reader:
    """Stands in for a caller who reads text as it is written."""

    committed = False

    def __init__(self):
        self.written = []

    async def write(self, text):
        self.written.append(text)


async def test_what_is_read_as_it_is_written_is_never_shared_but_kept(cache, upstream, ask):
    made = cache()
    calls = started(made, replace(ask(), sink=Reader()), replace(ask(), sink=Reader()), ask())
    await upstream.until_asked(3)
    for call in range(3):
        await upstream.end(call=call)
    await asyncio.gather(*calls)
    reader = Reader()
    asked = replace(ask(), sink=reader)

    answer = await made.answer(asked)

    assert (answer.completion.text, asked.trace.cache, reader.written) == ("text", HIT, [])


async def test_a_bypass_neither_joins_nor_fills(cache, upstream, ask, outcomes):
    made = cache()
    calls = started(made, ask(), ask(cache=CachePolicy.BYPASS))
    await upstream.until_asked(2)
    await upstream.end("bypassed", call=0)
    await upstream.end("kept", call=1)
    await asyncio.gather(*calls)

    texts = [each.completion.text for each in await asyncio.gather(*started(made, ask()))]

    assert (texts, outcomes("bypass", "miss", "hit")) == (["kept"], [1, 1, 1])


async def test_a_refresh_asks_anew_and_is_what_stays_whichever_ends_first(cache, upstream, ask):
    made = cache()
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


async def test_two_refreshes_are_two_calls(cache, upstream, ask):
    calls = started(cache(), *(ask(cache=CachePolicy.REFRESH) for _ in range(2)))
    await upstream.until_asked(2)
    await upstream.end(call=0)
    await upstream.end(call=1)

    assert len(await asyncio.gather(*calls)) == 2


class Broken:
    """Stands in for a store that is down."""

    async def get(self, key):
        raise StoreFailed("down")

    async def put(self, key, value):
        raise StoreFailed("down")


async def test_a_store_that_is_down_is_a_miss(cache, upstream, ask, outcomes, clock):
    made = cache(store=WriteBehind(Broken(), clock=clock, patience_s=1.0))
    asked = ask()
    calls = started(made, asked)
    await upstream.until_asked(1)
    await upstream.end()

    assert ((await calls[0]).completion.text, asked.trace.cache) == ("text", MISS)
    # Once for the look-up, and once for the answer that was not kept.
    assert outcomes("error", "miss") == [2, 0]


async def test_bytes_that_are_no_answer_are_a_miss_and_replaced(cache, upstream, ask, memory, outcomes):
    await memory.put(b"xNone", b"something else")
    calls = started(cache(), ask())
    await upstream.until_asked(1)
    await upstream.end()
    await calls[0]

    assert (await memory.get(b"xNone"), outcomes("error")) == (b"kept:text", [1])


async def test_a_picture_that_cannot_be_looked_at_goes_to_the_model_as_without_a_cache(cache, upstream, ask, outcomes):
    async def digest(_):
        raise InvalidImage("damaged", limit="decode")

    asked = ask()
    calls = started(cache(digest=digest), asked)
    await upstream.until_asked(1)
    await upstream.end()

    assert ((await calls[0]).completion.text, asked.trace.cache, outcomes("error")) == ("text", None, [1])


async def test_a_call_made_to_fit_its_cost_is_another_call(cache, upstream, ask):
    def fit(asked, allowance):
        return replace(asked, options=replace(asked.options, max_output_tokens=allowance))

    made = cache(fit=fit)
    capped = ask(max_cost_nano_usd=100)
    capped.trace.attempts.append(Attempt("before", Outcome.FAILED, "X", cost_nano_usd=40))
    calls = started(made, capped, ask())
    await upstream.until_asked(2)
    await upstream.end("short", call=0)
    await upstream.end("long", call=1)
    await asyncio.gather(*calls)

    assert (await made.answer(ask())).completion.text == "long"
    assert (await made.answer(ask(max_cost_nano_usd=60))).completion.text == "short"


async def test_a_call_that_cannot_be_made_to_fit_may_yet_be_a_hit(cache, upstream, ask):
    def fit(_, __):
        raise CostAboveLimit("m")

    made = cache(fit=fit)
    calls = started(made, ask())
    await upstream.end()
    await calls[0]

    assert (await made.answer(ask(max_cost_nano_usd=1))).completion.text == "text"


async def test_an_answer_that_had_less_to_fit_into_after_a_paid_failure_is_not_kept(cache, upstream, ask, memory):
    async def answer(asked):
        asked.trace.attempts.append(Attempt("m", Outcome.FAILED, "X", cost_nano_usd=5))
        return await Upstream.answer(upstream, asked)

    upstream.answer = answer
    calls = started(cache(), ask(max_cost_nano_usd=100))
    await upstream.until_asked(1)
    await upstream.end()
    await calls[0]

    assert await memory.get(b"xNone") is None


async def test_a_failed_call_leaves_nothing_for_the_collector(cache, upstream, ask):
    async def failing():
        queries = [type(ask().query)() for _ in range(2)]
        calls = started(cache(), *(replace(ask(), query=query) for query in queries))
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


class Busy:
    """Stands in for a model whose calls take a few turns of the loop, and fail now and then."""

    def __init__(self, random):
        self._random = random
        self.made = []

    async def answer(self, ask):
        told = ask.images[0].data.decode()
        # Each costs another power of two, so that any sum tells which were added.
        cost = 1 << len(self.made)
        self.made.append(ask)
        outcome = Outcome.FAILED
        try:
            for _ in range(self._random.randrange(8)):
                await asyncio.sleep(0)
            if self._random.random() < 0.2:
                raise self._random.choice([BackendUnavailable, Overloaded, Refused, DeadlineExceeded])("m")
            outcome = Outcome.OK
        finally:
            ask.trace.attempts.append(Attempt("m", outcome, cost_nano_usd=cost))
        return Answer(object(), Completion(told, Usage()), "m", "fake", "1", ImagePlan(1, 1, 0), 0)

    async def ready(self):
        return True


@pytest.mark.parametrize("seed", range(20))
async def test_whatever_happens_each_call_ends_once_with_its_own_answer_and_no_bill_is_split(
    seed, memory, metrics, clock, ask
):
    async def digest(image):
        await asyncio.sleep(0)
        return image.data

    random = Random(seed)  # noqa: S311  a test that can be made again keeps nothing secret
    model = Busy(random)
    store = WriteBehind(memory, clock=clock, patience_s=1.0)
    cache = Cache(
        model,
        name="m",
        store=store,
        digest=digest,
        key=lambda _, pictures: b"".join(pictures),
        codec=CODEC,
        fit=lambda asked, _: asked,
        metrics=metrics,
        clock=clock,
    )
    asks, calls = [], []
    for _ in range(200):
        told = random.choice("abc") + str(len(calls) // 40)
        policy = random.choice([CachePolicy.DEFAULT] * 8 + [CachePolicy.REFRESH, CachePolicy.BYPASS])
        asked = ask(cache=policy)
        asks.append(replace(asked, images=(replace(asked.images[0], data=told.encode()),)))
        calls.append(asyncio.create_task(cache.answer(asks[-1])))
        if random.random() < 0.3:
            random.choice(calls).cancel()
        for _ in range(random.randrange(3)):
            await asyncio.sleep(0)
    ends = await asyncio.gather(*calls, return_exceptions=True)
    await store.aclose()
    await turns()

    wrong = [end for end in ends if not isinstance(end, (Answer, GatewayError, asyncio.CancelledError))]
    texts = [
        (end.completion.text, each.images[0].data.decode())
        for end, each in zip(ends, asks, strict=True)
        if isinstance(end, Answer)
    ]
    billed = [attempt.cost_nano_usd for each in asks for attempt in each.trace.attempts if attempt.cost_nano_usd]
    assert wrong == []
    assert [told for told, own in texts if told != own] == []
    # Those whose caller went while others waited are on no caller's record any more.
    assert len(set(billed)) == len(billed) <= len(model.made) < 200
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert cache._flights._flights == {}
