"""What Triton cannot know of a model that answers by itself; shown among Triton's own metrics."""

from __future__ import annotations

import triton_python_backend_utils as pb_utils

OUTCOMES = ("ok", "invalid", "cancelled", "overloaded", "failed")


class Metrics:
    """Requests, tokens and the time to the first of them. Used on one thread.

    Triton 24.10 knows counters and gauges, so that the time is a sum and a count; and it dies of a family of metrics
    that goes before its metrics do.
    """

    def __init__(self, *, max_in_flight: int, image_token_budget: int) -> None:
        """*image_token_budget* is the soft tokens per image where a request asks for none."""
        counter, gauge = pb_utils.MetricFamily.COUNTER, pb_utils.MetricFamily.GAUGE
        self._families = [
            pb_utils.MetricFamily(f"vision_gemma4_{name}", description, kind)
            for name, description, kind in (
                ("requests_total", "Requests that have ended, by outcome", counter),
                ("tokens_total", "Tokens read and written, by kind", counter),
                ("time_to_first_token_seconds_sum", "Seconds from arrival to the first token, summed up", counter),
                ("time_to_first_token_seconds_count", "Requests that came to a first token", counter),
                ("in_flight", "Requests at work and waiting", gauge),
                ("max_in_flight", "Requests at work and waiting that are taken", gauge),
                ("image_token_budget", "Soft tokens per image where a request asks for none", gauge),
            )
        ]
        requests, tokens, *single = self._families
        self._requests = {outcome: requests.Metric(labels={"outcome": outcome}) for outcome in OUTCOMES}
        self._tokens = {kind: tokens.Metric(labels={"kind": kind}) for kind in ("input", "output")}
        self._first_sum, self._first_count, self._in_flight, *fixed = (family.Metric(labels={}) for family in single)
        for metric, value in zip(fixed, (max_in_flight, image_token_budget), strict=True):
            metric.set(value)
        self._fixed = fixed

    def ended(self, outcome: str, *, input_tokens: int = 0, output_tokens: int = 0) -> None:
        """Counts a request that has ended, and its tokens."""
        self._requests[outcome].increment(1)
        self._tokens["input"].increment(input_tokens)
        self._tokens["output"].increment(output_tokens)

    def first_token(self, seconds: float) -> None:
        """Counts a request that came to its first token, *seconds* after its arrival."""
        self._first_sum.increment(seconds)
        self._first_count.increment(1)

    def in_flight(self, count: int) -> None:
        """Tells how many requests are in flight."""
        self._in_flight.set(count)

    def close(self) -> None:
        """Takes the metrics out of Triton's."""
        self._requests.clear()
        self._tokens.clear()
        self._fixed.clear()
        del self._first_sum, self._first_count, self._in_flight
        self._families.clear()
