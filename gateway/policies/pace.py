"""Keeps the tokens that a principal has models read and write within what it may a minute."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog
from limits import RateLimitItemPerMinute
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from limits.errors import StorageError

from gateway.errors import RateLimited, StoreUnavailable, UnsupportedByModel
from gateway.policies import pass_by
from gateway.usage import Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from limits.aio.storage import Storage

    from gateway.domain import Answer, Ask, Quote
    from gateway.metrics import Metrics
    from gateway.policies import Model

# Room for a part of the minute to pass.
_RETRY_S = 10.0

_log = structlog.get_logger()


@dataclass(slots=True)
class TokenRates:
    """Tokens a minute, read and written, all models that are not free together; by principal, in *rates*.

    *fail_open* lets calls pass uncounted while the storage is down.
    """

    rates: Storage
    limits: Mapping[str, int]
    fail_open: bool
    metrics: Metrics

    def hold(self, limits: Mapping[str, int], *, fail_open: bool) -> None:
        """From now on *limits* are those that hold."""
        self.limits, self.fail_open = limits, fail_open

    async def take(self, principal: str, tokens: int) -> bool:
        """Counts *tokens* where they fit, and tells whether they did; raises `StoreUnavailable`.

        A call of more tokens than the limit itself takes all of a minute.
        """
        limit = RateLimitItemPerMinute(self.limits[principal])
        try:
            return await self._limiter.hit(limit, "tokens", principal, cost=min(tokens, limit.amount))
        except StorageError as exc:
            self._failed("open" if self.fail_open else "closed", exc)
        if not self.fail_open:
            raise StoreUnavailable("the rates cannot be looked at now", retry_after_s=_RETRY_S)
        return True

    async def add(self, principal: str, tokens: int) -> None:
        """Counts *tokens* that were taken already, as far as there is room for them; never raises."""
        most = self.limits.get(principal)
        if most is None:
            # It had a limit when its call began.
            return
        limit = RateLimitItemPerMinute(most)
        try:
            left = (await self._limiter.get_window_stats(limit, "tokens", principal)).remaining
            if left:
                await self._limiter.hit(limit, "tokens", principal, cost=min(tokens, left))
        except StorageError as exc:
            self._failed("open", exc)

    @property
    def _limiter(self) -> SlidingWindowCounterRateLimiter:
        return SlidingWindowCounterRateLimiter(self.rates)

    def _failed(self, decision: str, exc: StorageError) -> None:
        self.metrics.store_failed("tokens", decision)
        _log.error("rate_store_failed", operation="tokens", decision=decision, cause=type(exc.__cause__).__name__)


class Pace:
    """Counts the tokens that a call is expected to take before it is asked, and what it took beyond them after it."""

    def __init__(
        self, inner: Model, *, name: str, quote: Callable[[Ask], Quote], rates: TokenRates, metrics: Metrics
    ) -> None:
        """*name* is the operator's name of a model that is not free, *quote* prices asks at it."""
        self._inner = inner
        self._name = name
        self._quote = quote
        self._rates = rates
        self._metrics = metrics

    async def answer(self, ask: Ask) -> Answer:
        """Asks the inner model, or raises `RateLimited` or `StoreUnavailable` without asking."""
        principal = ask.principal
        most = self._rates.limits.get(principal)
        if most is None:
            return await self._inner.answer(ask)
        try:
            expected = self._quote(ask).input_tokens
        except UnsupportedByModel:
            # It asks nobody, and says so itself when asked, which puts it on the call's record.
            return await self._inner.answer(ask)
        try:
            fits = await self._rates.take(principal, expected)
        except StoreUnavailable as exc:
            pass_by(ask, self._name, exc.reason, self._metrics, shed=True)
            raise
        if not fits:
            limited = RateLimited(
                f"at most {most} tokens a minute are allowed, and this call reads about {expected}",
                subject=f"principal:{principal}",
                metadata={"limit": "tokens_per_min", "tokens_per_min": str(most)},
                retry_after_s=_RETRY_S,
            )
            # A free model takes none of them.
            limited.elsewhere = True
            pass_by(ask, self._name, limited.reason, self._metrics, shed=True)
            raise limited
        before = len(ask.trace.attempts)
        answer = await self._inner.answer(ask)
        used = sum((attempt.usage for attempt in ask.trace.attempts[before:]), Usage())
        if (beyond := used.input_total + used.output_total - expected) > 0:
            await self._rates.add(principal, beyond)
        return answer

    async def ready(self) -> bool:
        """Tells whether the inner model is ready."""
        return await self._inner.ready()
