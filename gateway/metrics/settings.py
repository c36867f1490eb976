"""What became of settings that were read again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import Counter, Gauge

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry


class SettingsMetrics:
    """What became of settings that were read again."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Registers every instrument with *registry*, once per process."""
        self._reloads = Counter(
            "vision_gateway_settings_reloads_total",
            "Times that the settings were read again: applied, refused, or unchanged.",
            ["outcome"],
            registry=registry,
        )
        for outcome in ("applied", "refused", "unchanged"):
            self._reloads.labels(outcome)
        self._applied = Gauge(
            "vision_gateway_settings_applied_timestamp_seconds",
            "When the settings in use were taken on, in Unix time.",
            multiprocess_mode="livemostrecent",
            registry=registry,
        )

    def settings_reload(self, outcome: str) -> None:
        """Counts a reading; *outcome* is `applied`, `refused` or `unchanged`."""
        self._reloads.labels(outcome).inc()

    def settings_applied(self, at: float) -> None:
        """Records that the settings in use were taken on at the Unix time *at*."""
        self._applied.set(at)
