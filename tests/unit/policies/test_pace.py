from __future__ import annotations

import pytest
from limits.aio.storage import MemoryStorage
from limits.errors import StorageError

from gateway.domain import Attempt, Outcome, Quote
from gateway.errors import RateLimited, StoreUnavailable, UnsupportedByModel
from gateway.policies.pace import Pace, TokenRates
from gateway.usage import Usage


class Reading:
    """Stands in for a model that is accounted for: each answer reads and writes so many tokens."""

    def __init__(self, inner, read, written):
        self.inner, self._usage = inner, Usage(input_text=read, output=written)

    async def answer(self, ask):
        ask.trace.attempts.append(Attempt("m", Outcome.OK, usage=self._usage))
        return await self.inner.answer(ask)


class Down(MemoryStorage):
    """Stands in for a storage that cannot be reached."""

    async def acquire_sliding_window_entry(self, *_, **__):
        raise StorageError(ConnectionError())

    async def get_sliding_window(self, *_, **__):
        raise StorageError(ConnectionError())


@pytest.fixture
def paced(model, metrics):
    def make(expected=100, read=100, written=0, most=250, storage=None, *, fail_open=False):
        def quote(_):
            if expected is None:
                raise UnsupportedByModel("one image at most")
            return Quote(0, expected, 0, 1, 1)

        inner = Reading(model(), read, written)
        rates = TokenRates(storage or MemoryStorage(), {"anonymous": most}, fail_open, metrics)
        return inner.inner, Pace(inner, name="m", quote=quote, rates=rates, metrics=metrics)

    return make


async def test_calls_pass_until_the_tokens_of_the_minute_are_taken(paced, ask, sample):
    inner, pace = paced()
    for _ in range(2):
        await pace.answer(ask())
    refused = ask()

    with pytest.raises(
        RateLimited, match="at most 250 tokens a minute are allowed, and this call reads about 100"
    ) as caught:
        await pace.answer(refused)

    assert len(inner.asked) == 2
    assert [(attempt.outcome, attempt.reason) for attempt in refused.trace.attempts] == [
        (Outcome.SKIPPED, "RATE_LIMITED")
    ]
    assert (caught.value.elsewhere, caught.value.retry_after_s) == (True, 10.0)
    assert sample("vision_gateway_shed_total", reason="RATE_LIMITED") == 1


async def test_what_was_written_counts_too(paced, ask):
    _, pace = paced(written=120)
    await pace.answer(ask())

    with pytest.raises(RateLimited):
        await pace.answer(ask())


async def test_what_was_written_beyond_the_limit_leaves_nothing_and_no_debt(paced, ask):
    _, pace = paced(written=100_000)
    await pace.answer(ask())

    with pytest.raises(RateLimited):
        await pace.answer(ask())


async def test_a_call_larger_than_a_minute_has_one_to_itself(paced, ask):
    inner, pace = paced(expected=1000)
    await pace.answer(ask())

    with pytest.raises(RateLimited):
        await pace.answer(ask())
    assert len(inner.asked) == 1


async def test_a_principal_without_a_limit_is_not_counted(paced, ask):
    inner, pace = paced(storage=Down())
    pace._rates.limits.clear()

    await pace.answer(ask())

    assert len(inner.asked) == 1


async def test_a_call_that_the_model_cannot_take_is_not_counted(paced, ask):
    inner, pace = paced(expected=None, storage=Down())

    await pace.answer(ask())

    assert len(inner.asked) == 1


@pytest.mark.parametrize("fail_open", [True, False], ids=["open", "closed"])
async def test_a_storage_that_is_down_fails_as_the_settings_say(paced, ask, sample, fail_open):
    inner, pace = paced(storage=Down(), fail_open=fail_open)

    if fail_open:
        await pace.answer(ask())
    else:
        with pytest.raises(StoreUnavailable):
            await pace.answer(ask())

    decision = "open" if fail_open else "closed"
    assert sample("vision_gateway_store_failures_total", operation="tokens", decision=decision) >= 1
    assert len(inner.asked) == fail_open


async def test_a_limit_that_is_lifted_while_a_call_is_answered_does_not_fail_it(model, ask, metrics):
    rates = TokenRates(MemoryStorage(), {"anonymous": 250}, fail_open=False, metrics=metrics)

    class Lifting(Reading):
        async def answer(self, ask):
            rates.hold({}, fail_open=False)
            return await super().answer(ask)

    pace = Pace(
        Lifting(model(), 100, 50), name="m", quote=lambda _: Quote(0, 100, 0, 1, 1), rates=rates, metrics=metrics
    )

    assert (await pace.answer(ask())).model == "m"
