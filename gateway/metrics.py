"""Every Prometheus instrument: names, labels and buckets.

Two families: the OpenTelemetry GenAI names as Envoy AI Gateway exports them, so that dashboards made for those work,
and our own. Labels come from closed sets (RPCs, configured models, error reasons), never from what a caller sends; the
names that servers give their models are bounded.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from prometheus_client import Counter, Gauge, Histogram

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from gateway.domain import Outcome, ServiceTier
    from gateway.usage import Usage

# Seconds. OpenTelemetry's edges for the duration of GenAI operations, and two more: models may take minutes.
_LONG = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92, 163.84, 327.68)
_FIRST_TOKEN = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 30.0)
_SHORT = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_TOKENS = tuple(float(4**n) for n in range(14))
_BYTES = tuple(float(4**n * 1024) for n in range(9))
_RATIOS = (0.25, 0.5, 0.75, 0.9, 0.95, 0.98, 1.0, 1.02, 1.05, 1.1, 1.25, 1.5, 2.0, 4.0, 8.0)
_NANO_USD = 1e-9
# What a server calls its model is its own word, and may be another with each answer: so many of them, each of at most
# so many characters, become labels for one model of ours; the rest are counted as OpenTelemetry's "other".
_MOST_RESPONSE_MODELS = 16
_LONGEST_RESPONSE_MODEL = 128
_OTHER = "_OTHER"


class Metrics:
    """The gateway's instruments on one registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Registers every instrument with *registry*, once per process."""
        self._response_models: defaultdict[str, set[str]] = defaultdict(set)
        genai = ["gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model", "gen_ai_response_model"]
        self._token_usage = Histogram(
            "gen_ai_client_token_usage",
            "Tokens per attempt, by type.",
            [*genai, "gen_ai_token_type"],
            buckets=_TOKENS,
            registry=registry,
        )
        self._upstream_request = Histogram(
            "gen_ai_server_request_duration_seconds",
            "Time from asking a model to its whole answer.",
            [*genai, "error_type"],
            buckets=_LONG,
            registry=registry,
        )
        self._first_token = Histogram(
            "gen_ai_server_time_to_first_token_seconds",
            "Time from asking a model to the first token of its answer.",
            genai,
            buckets=_FIRST_TOKEN,
            registry=registry,
        )
        self._requests = Counter(
            "vision_gateway_requests_total", "Calls by RPC and gRPC code.", ["rpc", "code"], registry=registry
        )
        self._duration = Histogram(
            "vision_gateway_request_duration_seconds",
            "Time from the first byte of a call to its answer.",
            ["rpc"],
            buckets=_LONG,
            registry=registry,
        )
        self._overhead = Histogram(
            "vision_gateway_overhead_seconds",
            "Time the gateway added to answered calls: total less queue, image work and models.",
            ["rpc"],
            buckets=_SHORT,
            registry=registry,
        )
        self._attempts = Counter(
            "vision_gateway_attempts_total",
            "Models asked, by how it went; reason is empty for answers.",
            ["rpc", "model", "outcome", "reason"],
            registry=registry,
        )
        self._upstream = Histogram(
            "vision_gateway_upstream_duration_seconds",
            "Time of one attempt at a model.",
            ["rpc", "model"],
            buckets=_LONG,
            registry=registry,
        )
        self._cost = Counter(
            "vision_gateway_cost_usd_total",
            "Cost of attempts in US dollars; kind is answer or failure.",
            ["rpc", "model", "service_tier", "kind"],
            registry=registry,
        )
        self._saved = Counter(
            "vision_gateway_cost_saved_usd_total",
            "What answers cost less than the dearest configured model was expected to, in US dollars.",
            ["rpc", "model"],
            registry=registry,
        )
        self._quote_error = Histogram(
            "vision_gateway_quote_error_ratio",
            "What an answer was billed, over what was quoted for it.",
            ["rpc", "model"],
            buckets=_RATIOS,
            registry=registry,
        )
        self._inflight = Gauge(
            "vision_gateway_inflight",
            "Calls being worked on: at the server, or at a model.",
            ["scope"],
            registry=registry,
        )
        self._shed = Counter(
            "vision_gateway_shed_total", "Calls turned away before any work.", ["reason"], registry=registry
        )
        self._fallbacks = Counter(
            "vision_gateway_fallbacks_total",
            "Calls passed on to the next model, by why the one before failed.",
            ["rpc", "reason"],
            registry=registry,
        )
        self._images_rejected = Counter(
            "vision_gateway_images_rejected_total",
            "Images refused, by the limit they hit.",
            ["limit"],
            registry=registry,
        )
        self._image_bytes = Histogram(
            "vision_gateway_image_bytes", "Size of images received.", ["rpc"], buckets=_BYTES, registry=registry
        )
        self._image_tokens = Histogram(
            "vision_gateway_image_tokens",
            "Image tokens per attempt, by the rule of the model.",
            ["rpc", "model"],
            buckets=_TOKENS,
            registry=registry,
        )
        self._model_ready = Gauge(
            "vision_gateway_model_ready", "1 while a model can be asked, else 0.", ["model"], registry=registry
        )
        self._ledger_rows_lost = Counter(
            "vision_gateway_ledger_rows_lost_total", "Attempts that never got into the ledger.", registry=registry
        )
        self._ledger_backlog = Gauge(
            "vision_gateway_ledger_backlog", "Attempts that wait for the ledger's database.", registry=registry
        )
        self._budget_remaining = Gauge(
            "vision_gateway_budget_remaining_usd",
            "US dollars of a configured budget that are neither spent nor reserved.",
            ["principal", "window"],
            registry=registry,
        )
        self._store_failures = Counter(
            "vision_gateway_store_failures_total",
            "Failures of the store of budgets, by what was to be done and what was done instead.",
            ["operation", "decision"],
            registry=registry,
        )
        self._breaker_state = Gauge(
            "vision_gateway_breaker_state",
            "Whether a model is given a pause: 0 closed, 1 half-open, 2 open.",
            ["model"],
            registry=registry,
        )
        self._loop_lag = Histogram(
            "vision_gateway_event_loop_lag_seconds",
            "How late the event loop runs what is due.",
            buckets=_SHORT,
            registry=registry,
        )

    def call_ended(self, rpc: str, code: str, seconds: float, overhead_seconds: float | None) -> None:
        """Counts a call that ended with gRPC *code*; *overhead_seconds* is None unless it was answered."""
        self._requests.labels(rpc, code).inc()
        self._duration.labels(rpc).observe(seconds)
        if overhead_seconds is not None:
            self._overhead.labels(rpc).observe(overhead_seconds)

    def attempt(  # noqa: PLR0913  these are the facts of an attempt, each named at the call
        self,
        *,
        rpc: str,
        model: str,
        provider: str,
        response_model: str,
        outcome: Outcome,
        reason: str,
        seconds: float,
        usage: Usage,
        tier: ServiceTier,
        cost_nano_usd: int,
        time_to_first_token_s: float | None,
    ) -> None:
        """Counts one model that was asked."""
        genai = (rpc.lower(), provider, model, self._bounded(model, response_model))
        self._attempts.labels(rpc, model, outcome.value, reason).inc()
        self._upstream.labels(rpc, model).observe(seconds)
        self._upstream_request.labels(*genai, reason).observe(seconds)
        if time_to_first_token_s is not None:
            self._first_token.labels(*genai).observe(time_to_first_token_s)
        for kind, count in (
            ("input", usage.input_total),
            ("cached_input", usage.cached_input),
            ("output", usage.output_total),
            ("reasoning", usage.reasoning),
        ):
            if count:
                self._token_usage.labels(*genai, kind).observe(count)
        if usage.input_image:
            self._image_tokens.labels(rpc, model).observe(usage.input_image)
        kind = "failure" if reason else "answer"
        self._cost.labels(rpc, model, tier.value, kind).inc(cost_nano_usd * _NANO_USD)

    def skipped(self, *, rpc: str, model: str, reason: str) -> None:
        """Counts one model that was passed over without being asked."""
        self._attempts.labels(rpc, model, "skipped", reason).inc()

    def saved(self, *, rpc: str, model: str, nano_usd: int) -> None:
        """Counts what an answer by *model* cost less than the dearest one was expected to."""
        self._saved.labels(rpc, model).inc(nano_usd * _NANO_USD)

    def quote_error(self, *, rpc: str, model: str, ratio: float) -> None:
        """Records what an answer by *model* was billed, over what was quoted for it."""
        self._quote_error.labels(rpc, model).observe(ratio)

    def fell_back(self, *, rpc: str, reason: str) -> None:
        """Counts a call that went on to the next model because of *reason*."""
        self._fallbacks.labels(rpc, reason).inc()

    def inflight(self, scope: str) -> Gauge:
        """Gives the gauge of work going on in *scope*: `server`, or a model's name."""
        return self._inflight.labels(scope)

    def shed(self, reason: str) -> None:
        """Counts a call turned away before any work."""
        self._shed.labels(reason).inc()

    def image_received(self, rpc: str, byte_count: int) -> None:
        """Counts an image that passed the checks."""
        self._image_bytes.labels(rpc).observe(byte_count)

    def image_rejected(self, limit: str) -> None:
        """Counts an image that hit *limit*."""
        self._images_rejected.labels(limit).inc()

    def model_ready(self, model: str, *, ready: bool) -> None:
        """Records whether *model* can be asked."""
        self._model_ready.labels(model).set(ready)

    def ledger_rows_lost(self, count: int) -> None:
        """Counts rows that the ledger had to drop."""
        self._ledger_rows_lost.inc(count)

    def ledger_backlog(self, count: int) -> None:
        """Records how many rows wait for the ledger's database."""
        self._ledger_backlog.set(count)

    def budget_remaining(self, principal: str, window: str, nano_usd: int) -> None:
        """Records what is left of a configured budget."""
        self._budget_remaining.labels(principal, window).set(nano_usd * _NANO_USD)

    def store_failed(self, operation: str, decision: str) -> None:
        """Counts a failure of the store of budgets."""
        self._store_failures.labels(operation, decision).inc()

    def breaker_state(self, model: str, state: int) -> None:
        """Records the state of the breaker of *model*: 0 closed, 1 half-open, 2 open."""
        self._breaker_state.labels(model).set(state)

    def loop_lag(self, seconds: float) -> None:
        """Records how late the event loop was."""
        self._loop_lag.observe(seconds)

    def _bounded(self, model: str, response_model: str) -> str:
        known = self._response_models[model]
        if response_model not in known:
            if len(known) >= _MOST_RESPONSE_MODELS or len(response_model) > _LONGEST_RESPONSE_MODEL:
                return _OTHER
            known.add(response_model)
        return response_model
