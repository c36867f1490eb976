"""What models do: attempts, tokens, time, and whether they can be asked."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from prometheus_client import Counter, Gauge, Histogram

from gateway import tracing
from gateway.domain import QuotaKind
from gateway.metrics._units import LONG, NANO_USD
from gateway.metrics.seat import gone

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from gateway.domain import Outcome, ServiceTier, UpstreamQuota
    from gateway.usage import Usage

# Of the operations that OpenTelemetry names, the one whose input is not text alone.
_OPERATION = "generate_content"
# OpenTelemetry's edges for the duration of GenAI operations, in seconds, and two more: models may take minutes.
_DURATION = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92, 163.84, 327.68)
_FIRST_TOKEN = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 30.0)
_TOKENS = tuple(float(4**n) for n in range(14))
_IMAGE_TOKENS = tuple(float(4**n) for n in range(2, 9))
# What a server calls its model is its own word, and may be another with each answer: so many of them, each of at most
# so many characters, become labels for one model of ours; the rest are counted as OpenTelemetry's "other".
_MOST_RESPONSE_MODELS = 16
_LONGEST_RESPONSE_MODEL = 128
_OTHER = "_OTHER"


class ModelMetrics:
    """What models do: attempts, tokens, time, and whether they can be asked."""

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
            buckets=_DURATION,
            registry=registry,
        )
        self._first_token = Histogram(
            "gen_ai_server_time_to_first_token_seconds",
            "Time from asking a model to the first token of its answer.",
            genai,
            buckets=_FIRST_TOKEN,
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
            buckets=LONG,
            registry=registry,
        )
        self._cost = Counter(
            "vision_gateway_cost_usd_total",
            "Cost of attempts in US dollars; kind is answer or failure.",
            ["rpc", "model", "service_tier", "kind"],
            registry=registry,
        )
        self._image_tokens = Histogram(
            "vision_gateway_image_tokens",
            "Image tokens per attempt, by the rule of the model.",
            ["model"],
            buckets=_IMAGE_TOKENS,
            registry=registry,
        )
        self._model_ready = Gauge(
            "vision_gateway_model_ready",
            "1 while a model can be asked, else 0.",
            ["model"],
            multiprocess_mode="livemin",
            registry=registry,
        )
        self._breaker_state = Gauge(
            "vision_gateway_breaker_state",
            "Whether a model is given a pause: 0 closed, 1 half-open, 2 open.",
            ["model"],
            multiprocess_mode="livemax",
            registry=registry,
        )
        self._quota_remaining = Gauge(
            "vision_gateway_upstream_ratelimit_remaining",
            "Requests or tokens that the rate limit of a model's provider still allows, as it last told.",
            ["model", "kind"],
            multiprocess_mode="livemostrecent",
            registry=registry,
        )
        self._quota = Gauge(
            "vision_gateway_upstream_ratelimit_limit",
            "The rate limit that these are left of.",
            ["model", "kind"],
            multiprocess_mode="livemostrecent",
            registry=registry,
        )

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
        genai = (_OPERATION, provider, model, self._bounded(model, response_model))
        self._attempts.labels(rpc, model, outcome.value, reason).inc()
        exemplar = tracing.exemplar()
        self._upstream.labels(rpc, model).observe(seconds, exemplar)
        self._upstream_request.labels(*genai, reason).observe(seconds, exemplar)
        if time_to_first_token_s is not None:
            self._first_token.labels(*genai).observe(time_to_first_token_s, exemplar)
        for kind, count in (
            ("input", usage.input_total),
            ("cached_input", usage.cached_input),
            ("output", usage.output_total),
            ("reasoning", usage.reasoning),
        ):
            if count:
                self._token_usage.labels(*genai, kind).observe(count)
        if usage.input_image:
            self._image_tokens.labels(model).observe(usage.input_image)
        kind = "failure" if reason else "answer"
        self._cost.labels(rpc, model, tier.value, kind).inc(cost_nano_usd * NANO_USD)

    def skipped(self, *, rpc: str, model: str, reason: str) -> None:
        """Counts one model that was passed over without being asked."""
        self._attempts.labels(rpc, model, "skipped", reason).inc()

    def model_ready(self, model: str, *, ready: bool) -> None:
        """Records whether *model* can be asked."""
        self._model_ready.labels(model).set(ready)

    def breaker_state(self, model: str, state: int) -> None:
        """Records the state of the breaker of *model*: 0 closed, 1 half-open, 2 open."""
        self._breaker_state.labels(model).set(state)

    def upstream_quota(self, model: str, quota: UpstreamQuota) -> None:
        """Records what the provider of *model* says is left of one of its limits."""
        self._quota_remaining.labels(model, quota.kind.value).set(quota.remaining)
        if quota.limit is not None:
            self._quota.labels(model, quota.kind.value).set(quota.limit)

    def forget_upstream_quota(self, model: str) -> None:
        """Shows nothing more of what the provider of *model* said; the next one may tell other figures, or none."""
        for gauge in (self._quota_remaining, self._quota):
            for kind in QuotaKind:
                gone(gauge, model, kind.value)

    def _bounded(self, model: str, response_model: str) -> str:
        known = self._response_models[model]
        if response_model not in known:
            if len(known) >= _MOST_RESPONSE_MODELS or len(response_model) > _LONGEST_RESPONSE_MODEL:
                return _OTHER
            known.add(response_model)
        return response_model
