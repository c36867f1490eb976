"""Lets each principal make as many calls a second, and at once, as it may."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog
from limits import RateLimitItemPerSecond
from limits.aio.strategies import MovingWindowRateLimiter
from limits.errors import StorageError

from gateway.budget import StoreFailed, TooMany
from gateway.errors import RateLimited, StoreUnavailable, Unauthenticated

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

    from limits.aio.storage import Storage

    from gateway.budget import Store
    from gateway.domain import Clock
    from gateway.errors import GatewayError
    from gateway.metrics import Metrics
    from gateway.server.identity import Credentials, Identity

# Seconds beyond a call's time for it to be over, before its place is free whatever became of its worker.
_MARGIN_S = 30.0
_RETRY_S = 1.0

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Allowance:
    """Calls that one principal may make; None is no limit."""

    requests_per_s: int | None = None
    max_inflight: int | None = None


class Turnstile:
    """Tells who makes a call, and counts it; nothing is read of calls that do not pass."""

    def __init__(  # noqa: PLR0913  the parts it is made of, each named at the call
        self,
        identity: Identity,
        *,
        allowances: Mapping[str, Allowance],
        store: Store | None,
        rates: Storage,
        fail_open: bool,
        metrics: Metrics,
        now: Clock,
    ) -> None:
        """*store* has the places of calls, *rates* what was called lately; *now* is a wall clock, in Unix time.

        *store* may be None where no principal has a `max_inflight`.
        """
        self._identity = identity
        self._allowances = allowances
        self._store = store
        self._rates = MovingWindowRateLimiter(rates)
        self._fail_open = fail_open
        self._metrics = metrics
        self._now = now

    def principal(self, given: Credentials) -> str:
        """Tells whose credentials are *given*; raises `Unauthenticated`, which is counted."""
        try:
            return self._identity.principal(given)
        except Unauthenticated as exc:
            self._metrics.auth_refused(exc.cause)
            raise

    @asynccontextmanager
    async def enter(self, given: Credentials, allowed_s: float) -> AsyncGenerator[str]:
        """Gives the principal for as long as its call goes on, *allowed_s* seconds at most.

        Raises `Unauthenticated`, `RateLimited` and `StoreUnavailable`.
        """
        principal = self.principal(given)
        allowance = self._allowances.get(principal)
        if allowance is None:
            yield principal
            return
        place = await self._place(principal, allowance.max_inflight, allowed_s) if allowance.max_inflight else None
        try:
            if allowance.requests_per_s:
                await self._count(principal, allowance.requests_per_s)
            yield principal
        finally:
            if place and self._store:
                await self._leave(self._store, principal, place)

    async def _count(self, principal: str, most: int) -> None:
        try:
            allowed = await self._rates.hit(RateLimitItemPerSecond(most), principal)
        except StorageError as exc:
            self._failed("rate", exc)
            return
        if not allowed:
            raise self._limited(principal, f"at most {most} calls a second are allowed", "requests_per_s", most)

    async def _place(self, principal: str, most: int, allowed_s: float) -> str | None:
        if self._store is None:
            return None
        try:
            return await self._store.enter(principal, most, now=self._now(), lease_s=allowed_s + _MARGIN_S)
        except TooMany:
            raise self._limited(principal, f"at most {most} calls at once are allowed", "max_inflight", most) from None
        except StoreFailed as exc:
            self._failed("enter", exc)
            return None

    async def _leave(self, store: Store, principal: str, place: str) -> None:
        try:
            await store.leave(principal, place)
        except StoreFailed as exc:
            # The place is free when its lease ends.
            self._metrics.store_failed("leave", "expires")
            _log.error("rate_store_failed", operation="leave", cause=type(exc.__cause__).__name__)

    def _failed(self, operation: str, exc: Exception) -> None:
        decision = "open" if self._fail_open else "closed"
        self._metrics.store_failed(operation, decision)
        _log.error("rate_store_failed", operation=operation, decision=decision, cause=type(exc.__cause__).__name__)
        if not self._fail_open:
            error = StoreUnavailable("the rates cannot be looked at now", retry_after_s=_RETRY_S)
            raise self._shed(error) from None

    def _limited(self, principal: str, message: str, limit: str, most: int) -> GatewayError:
        metadata = {"limit": limit, limit: str(most)}
        subject = f"principal:{principal}"
        return self._shed(RateLimited(message, subject=subject, metadata=metadata, retry_after_s=_RETRY_S))

    def _shed(self, error: GatewayError) -> GatewayError:
        self._metrics.shed(error.reason)
        return error
