"""What is saved, quoted, budgeted and written down."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import Counter, Gauge, Histogram

from gateway.metrics._units import NANO_USD
from gateway.metrics.seat import gone

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

_RATIOS = (0.25, 0.5, 0.75, 0.9, 0.95, 0.98, 1.0, 1.02, 1.05, 1.1, 1.25, 1.5, 2.0, 4.0, 8.0)


class MoneyMetrics:
    """What is saved, quoted, budgeted and written down."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Registers every instrument with *registry*, once per process."""
        self._saved = Counter(
            "vision_gateway_cost_saved_usd_total",
            "What answers cost less than the dearest configured model was expected to, in US dollars.",
            ["rpc", "model"],
            registry=registry,
        )
        self._quote_error = Histogram(
            "vision_gateway_quote_error_ratio",
            "What an answer was billed, over what was quoted for it.",
            ["model"],
            buckets=_RATIOS,
            registry=registry,
        )
        self._ledger_rows_lost = Counter(
            "vision_gateway_ledger_rows_lost_total", "Attempts that never got into the ledger.", registry=registry
        )
        self._ledger_backlog = Gauge(
            "vision_gateway_ledger_backlog",
            "Attempts that wait for the ledger's database.",
            multiprocess_mode="livesum",
            registry=registry,
        )
        self._budget_remaining = Gauge(
            "vision_gateway_budget_remaining_usd",
            "US dollars of a configured budget that are neither spent nor reserved.",
            ["principal", "window"],
            multiprocess_mode="livemostrecent",
            registry=registry,
        )
        self._budget = Gauge(
            "vision_gateway_budget_usd",
            "US dollars that a principal may spend in a window.",
            ["principal", "window"],
            multiprocess_mode="livemostrecent",
            registry=registry,
        )
        self._store_failures = Counter(
            "vision_gateway_store_failures_total",
            "Failures of the store of budgets, by what was to be done and what was done instead.",
            ["operation", "decision"],
            registry=registry,
        )

    def saved(self, *, rpc: str, model: str, nano_usd: int) -> None:
        """Counts what an answer by *model* cost less than the dearest one was expected to."""
        self._saved.labels(rpc, model).inc(nano_usd * NANO_USD)

    def quote_error(self, *, model: str, ratio: float) -> None:
        """Records what an answer by *model* was billed, over what was quoted for it."""
        self._quote_error.labels(model).observe(ratio)

    def ledger_rows_lost(self, count: int) -> None:
        """Counts rows that the ledger had to drop."""
        self._ledger_rows_lost.inc(count)

    def ledger_backlog(self, count: int) -> None:
        """Records how many rows wait for the ledger's database."""
        self._ledger_backlog.set(count)

    def budget_remaining(self, principal: str, window: str, nano_usd: int, *, of_nano_usd: int) -> None:
        """Records what is left of a configured budget of *of_nano_usd*."""
        self._budget_remaining.labels(principal, window).set(nano_usd * NANO_USD)
        self._budget.labels(principal, window).set(of_nano_usd * NANO_USD)

    def forget_budget(self, principal: str, window: str) -> None:
        """Shows a budget no more that is not configured any more."""
        for gauge in (self._budget_remaining, self._budget):
            gone(gauge, principal, window)

    def store_failed(self, operation: str, decision: str) -> None:
        """Counts a failure of the store of budgets."""
        self._store_failures.labels(operation, decision).inc()
