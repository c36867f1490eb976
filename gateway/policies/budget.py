"""Keeps what a principal spends within its budgets: the worst case is reserved before, the bill is settled after."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import structlog

from gateway.budget import Claim, Exhausted, StoreFailed
from gateway.errors import BudgetExceeded, StoreUnavailable, UnsupportedByModel
from gateway.policies import pass_by

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gateway.budget import Limits, Reservation, Store
    from gateway.domain import Answer, Ask, Clock, Quote
    from gateway.metrics import Metrics
    from gateway.policies import Model

# Seconds beyond a call's deadline for its bill to be settled, before its reservation expires.
_MARGIN_S = 30.0
# Seconds to come back after when only calls in flight stand in the way.
_RETRY_IN_FLIGHT_S = 1.0
_NANO = 1_000_000_000

_log = structlog.get_logger()


@dataclass(slots=True)
class Budgets:
    """The budgets of all principals; *now* is a wall clock, in Unix time.

    *fail_open* lets calls pass uncounted while the store is down; else only free models answer.
    """

    store: Store
    limits: Mapping[str, Limits]
    fail_open: bool
    metrics: Metrics
    now: Clock

    def hold(self, limits: Mapping[str, Limits], *, fail_open: bool) -> None:
        """From now on *limits* are those that hold; what was spent stays counted."""
        before, self.limits, self.fail_open = self.limits, limits, fail_open
        for principal, windows in before.items():
            for window in windows.keys() - limits.get(principal, {}).keys():
                self.metrics.forget_budget(principal, window.value)

    async def reserve(self, principal: str, amount: int, lease_s: float) -> Reservation | None:
        """Reserves *amount* nano-USD; None when the store is down and calls may pass.

        Raises `BudgetExceeded` and `StoreUnavailable`.
        """
        now = self.now()
        try:
            return await self.store.reserve(Claim(principal, amount, self.limits[principal], now, lease_s))
        except Exhausted as exc:
            raise _exceeded(principal, amount, exc, now) from None
        except StoreFailed as exc:
            self._failed("reserve", "open" if self.fail_open else "closed", exc)
            if self.fail_open:
                return None
        raise StoreUnavailable("the budgets cannot be looked at now", retry_after_s=_RETRY_IN_FLIGHT_S)

    async def settle(self, reservation: Reservation, actual: int) -> None:
        """Charges *actual*; when the store is down the reservation is left to expire."""
        try:
            await self.store.settle(reservation, actual)
        except StoreFailed as exc:
            self._failed("settle", "expires", exc)

    async def watch(self, interval_s: Callable[[], float]) -> None:
        """Shows what is left of each budget in the metrics, until cancelled."""
        while True:
            try:
                await self.look()
            except StoreFailed as exc:
                self._failed("balance", "skipped", exc)
            await asyncio.sleep(interval_s())

    async def look(self) -> None:
        """Shows it once; raises `StoreFailed`."""
        held = self.limits
        for principal, limits in held.items():
            balances = await self.store.balance(principal, self.now())
            if self.limits is not held:
                # Others hold meanwhile, and are shown by the next look.
                return
            for window, limit in limits.items():
                left = limit - balances[window].spent - balances[window].reserved
                self.metrics.budget_remaining(principal, window.value, left, of_nano_usd=limit)

    def _failed(self, operation: str, decision: str, exc: StoreFailed) -> None:
        self.metrics.store_failed(operation, decision)
        _log.error("budget_store_failed", operation=operation, decision=decision, cause=type(exc.__cause__).__name__)


class Budget:
    """Reserves a call's worst case at one model, and settles for what its attempts there cost, however they end."""

    def __init__(
        self,
        inner: Model,
        *,
        name: str,
        quote: Callable[[Ask], Quote],
        budgets: Budgets,
        metrics: Metrics,
        clock: Clock,
    ) -> None:
        """*name* is the operator's name of a model that is not free, *quote* prices asks at it."""
        self._inner = inner
        self._name = name
        self._quote = quote
        self._budgets = budgets
        self._metrics = metrics
        self._clock = clock

    async def answer(self, ask: Ask) -> Answer:
        """Asks the inner model, or raises `BudgetExceeded` or `StoreUnavailable` without asking."""
        if ask.principal not in self._budgets.limits:
            return await self._inner.answer(ask)
        try:
            worst = self._quote(ask).max_cost
        except UnsupportedByModel:
            # It asks nobody, and says so itself when asked, which puts it on the call's record.
            return await self._inner.answer(ask)
        lease_s = max(ask.deadline - self._clock(), 0.0) + _MARGIN_S
        try:
            reservation = await self._budgets.reserve(ask.principal, worst, lease_s)
        except (BudgetExceeded, StoreUnavailable) as exc:
            pass_by(ask, self._name, exc.reason, self._metrics, shed=True)
            raise
        before = len(ask.trace.attempts)
        try:
            return await self._inner.answer(ask)
        finally:
            if reservation:
                made = ask.trace.attempts[before:]
                actual = sum(attempt.cost_nano_usd for attempt in made if attempt.model == self._name)
                await self._budgets.settle(reservation, actual)

    async def ready(self) -> bool:
        """Tells whether the inner model is ready."""
        return await self._inner.ready()


def _exceeded(principal: str, amount: int, exc: Exhausted, now: float) -> BudgetExceeded:
    resets = datetime.fromtimestamp(exc.resets_at, UTC).strftime("%Y-%m-%dT%H:%MZ")
    in_flight = exc.balance.spent + amount <= exc.limit
    why = "what calls in flight may cost stands in the way" if in_flight else f"{_usd(exc.balance.spent)} are spent"
    return BudgetExceeded(
        f"this call may cost {_usd(amount)}, and the budget of {_usd(exc.limit)} for the {exc.window.value} does not "
        f"have that left: {why}; it starts anew at {resets}",
        subject=f"principal:{principal}",
        metadata={
            "window": exc.window.value,
            "limit_nano_usd": str(exc.limit),
            "spent_nano_usd": str(exc.balance.spent),
            "reserved_nano_usd": str(exc.balance.reserved),
            "resets_at": resets,
        },
        retry_after_s=_RETRY_IN_FLIGHT_S if in_flight else float(math.ceil(exc.resets_at - now)),
    )


def _usd(nano: int) -> str:
    whole, rest = divmod(nano, _NANO)
    return f"${whole}.{f'{rest:09d}'.rstrip('0').ljust(2, '0')}"
