"""Asks a model once more when it failed in a way that may pass.

Only what failed at the model itself is tried again: `BackendUnavailable` and `UpstreamRateLimited` of an attempt that
was made. A pause or a queue of ours is not waited for by calls that were never asked, and a model that is silent until
the time is up is not asked a second time to be so.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from gateway import tracing
from gateway.domain import Outcome
from gateway.errors import BackendUnavailable, UpstreamRateLimited

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from random import Random

    from gateway.domain import Answer, Ask, Clock
    from gateway.errors import GatewayError
    from gateway.latency import Latency
    from gateway.metrics import Metrics
    from gateway.policies import Model

# Each wait is drawn up to so many times the last one: "decorrelated jitter" of
# https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/.
_GROWTH = 3.0
# Where another model is there to ask, one quick try of this one is all that is worth its time.
_ATTEMPTS_BEFORE_NEXT = 2
# A failure that took longer, and longer than 19 of 20 answers do, is silence that ended.
_SILENT_S = 1.0


class RetryBudget:
    """Bounds how many calls are in a second or later attempt, or wait for it, at all models together.

    The rule and its figures are Envoy's: 20 % of the calls in flight, and three at least;
    https://www.envoyproxy.io/docs/envoy/latest/api-v3/config/cluster/v3/circuit_breaker.proto (RetryBudget).
    """

    def __init__(self, *, share: float = 0.2, least: int = 3) -> None:
        """*share* of the calls in flight, in [0, 1], may try again at once, and *least* calls whatever is in flight."""
        self._share = share
        self._least = least
        self._calls = 0
        self._retries = 0

    def enter(self) -> None:
        """Counts a call that begins."""
        self._calls += 1

    def spend(self) -> bool:
        """Lets a call that began try again until it leaves, if there is room."""
        if self._retries >= max(self._least, self._share * self._calls):
            return False
        self._retries += 1
        return True

    def leave(self, *, spent: bool) -> None:
        """Counts a call that ends; *spent* says that it was let try again."""
        self._calls -= 1
        self._retries -= spent


class Retry:
    """Tries again after a jittered wait, as long as an answer could still be in time."""

    def __init__(  # noqa: PLR0913  what it watches and by which rule, each named at the call
        self,
        inner: Model,
        *,
        name: str,
        attempts: int,
        wait_s: float,
        longest_wait_s: float,
        budget: RetryBudget,
        latency: Latency,
        metrics: Metrics,
        clock: Clock,
        random: Random,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        """Makes at most *attempts*, the first included, *wait_s* to *longest_wait_s* seconds apart.

        A model that says how long to wait is waited for that long. *budget* is shared by all models; *latency* knows
        how long an answer takes.
        """
        self._inner = inner
        self._name = name
        self._attempts = attempts
        self._wait_s = wait_s
        self._longest_wait_s = longest_wait_s
        self._budget = budget
        self._latency = latency
        self._metrics = metrics
        self._clock = clock
        self._random = random
        self._sleep = sleep

    async def answer(self, ask: Ask) -> Answer:
        """Asks the inner model until it answers or nothing speaks for another try; raises its last failure.

        A failure that may pass says when to come back. The waits are on the call's record as time in the queue.
        """
        most = min(self._attempts, _ATTEMPTS_BEFORE_NEXT) if ask.has_next else self._attempts
        backoff_s, made, spent = self._wait_s, 0, False
        before = len(ask.trace.attempts)
        self._budget.enter()
        try:
            while True:
                try:
                    return await self._inner.answer(ask)
                except (BackendUnavailable, UpstreamRateLimited) as exc:
                    made += 1
                    backoff_s = min(self._random.uniform(self._wait_s, _GROWTH * backoff_s), self._longest_wait_s)
                    wait_s = self._pause(ask, exc, backoff_s) if made < most else None
                    # Once asked, a call also sits out the pause in which another one tries the model.
                    if wait_s is not None and not spent:
                        spent = self._may(ask, before, exc)
                    if wait_s is None or not spent:
                        if exc.retry_after_s is None:
                            exc.retry_after_s = backoff_s
                        raise
                    self._metrics.retried(model=self._name, reason=exc.reason, outcome="retried")
                await self._wait(ask, wait_s)
        finally:
            self._budget.leave(spent=spent)

    async def ready(self) -> bool:
        """Tells whether the inner model is ready."""
        return await self._inner.ready()

    def _may(self, ask: Ask, before: int, exc: GatewayError) -> bool:
        if not self._was_asked(ask, before, exc):
            return False
        if not self._budget.spend():
            self._metrics.retried(model=self._name, reason=exc.reason, outcome="refused")
            return False
        return True

    def _was_asked(self, ask: Ask, before: int, exc: GatewayError) -> bool:
        """Tells whether the model itself failed, and was not silent."""
        last = next((each for each in reversed(ask.trace.attempts[before:]) if each.model == self._name), None)
        if last is None or last.outcome is not Outcome.FAILED:
            return False
        if exc.retry_after_s is not None or last.duration_s <= _SILENT_S:
            return True
        p95_s = self._latency.p95_s(ask.query.rpc, self._name)
        return p95_s is None or last.duration_s <= p95_s

    def _pause(self, ask: Ask, exc: GatewayError, backoff_s: float) -> float | None:
        """Gives the seconds to wait before another attempt; None where it would be too late, or is not wanted."""
        if ask.sink is not None and ask.sink.committed:
            return None
        wait_s = backoff_s
        if exc.retry_after_s is None:
            # A model that is asked in its pause has failed often enough to have it.
            if ask.last_resort:
                return None
        elif ask.has_next:
            return None
        else:
            # A little more, for a timer may go off early; drawn, so that those told the same come back by and by.
            wait_s = exc.retry_after_s + self._random.uniform(self._wait_s / 2, self._wait_s)
        takes_s = self._latency.expected_s(ask.query.rpc, self._name) or 0.0
        return wait_s if self._clock() + wait_s + takes_s < ask.deadline else None

    async def _wait(self, ask: Ask, seconds: float) -> None:
        started = self._clock()
        try:
            with tracing.span("wait to retry"):
                await self._sleep(seconds)
        finally:
            ask.trace.queue_s += self._clock() - started
