"""What Triton cannot know of a model that answers by itself; shown among Triton's own metrics."""

from __future__ import annotations

import threading
from typing import Any

import triton_python_backend_utils as pb_utils

OUTCOMES = ("ok", "unsupported", "invalid", "cancelled", "overloaded", "failed")
_OTHER = "other"


class Metrics:
    """Counts requests by RPC and outcome, and shows how many are in flight. Safe to use from many threads.

    Triton 24.10 must be told one thing at a time, and dies of a family of metrics that goes before its metrics do.
    """

    def __init__(self, rpcs: tuple[str, ...]) -> None:
        """*rpcs* are the names that are told apart."""
        self._lock = threading.Lock()
        self._families = (
            pb_utils.MetricFamily(
                "vision_embedded_requests_total",
                "Requests that have ended, by RPC and outcome",
                pb_utils.MetricFamily.COUNTER,
            ),
            pb_utils.MetricFamily(
                "vision_embedded_in_flight", "Requests at work and waiting", pb_utils.MetricFamily.GAUGE
            ),
        )
        requests, in_flight = self._families
        self._requests = {
            (rpc, outcome): requests.Metric(labels={"rpc": rpc, "outcome": outcome})
            for rpc in (*rpcs, _OTHER)
            for outcome in OUTCOMES
        }
        self._in_flight = in_flight.Metric(labels={})

    def count(self, rpc: Any, outcome: str) -> None:
        """Counts a request that has ended."""
        with self._lock:
            known = (rpc, outcome) in self._requests
            self._requests[rpc if known else _OTHER, outcome].increment(1)

    def in_flight(self, count: int) -> None:
        """Tells how many requests are in flight."""
        with self._lock:
            self._in_flight.set(count)

    def close(self) -> None:
        """Takes the metrics out of Triton's."""
        with self._lock:
            self._requests.clear()
            del self._in_flight
            del self._families
