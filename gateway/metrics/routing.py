"""What is done so that a call is answered all the same, or for less."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import Counter, Gauge, Histogram

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

_AGREEMENTS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0)


class RoutingMetrics:
    """What is done so that a call is answered all the same, or for less."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Registers every instrument with *registry*, once per process."""
        self._fallbacks = Counter(
            "vision_gateway_fallbacks_total",
            "Calls passed on to the next model, by why the one before failed.",
            ["rpc", "reason"],
            registry=registry,
        )
        self._retries = Counter(
            "vision_gateway_retries_total",
            "Models asked once more, by why they failed; refused when the budget of retries was spent.",
            ["model", "reason", "outcome"],
            registry=registry,
        )
        self._escalations = Counter(
            "vision_gateway_escalations_total",
            "Answers passed over for the next model's, by what was doubtful about them.",
            ["rpc", "model", "reason"],
            registry=registry,
        )
        self._hedges = Counter(
            "vision_gateway_hedges_total",
            "Calls for which the next model was asked too; by the model whose answer was given, or failed.",
            ["rpc", "outcome"],
            registry=registry,
        )
        self._shadows = Counter(
            "vision_gateway_shadows_total",
            "Calls made to a shadow model: answered, failed, or dropped before they were made.",
            ["rpc", "model", "outcome"],
            registry=registry,
        )
        self._agreement = Histogram(
            "vision_gateway_agreement_ratio",
            "How far a second model's answer agrees with the one given.",
            ["rpc", "model", "other"],
            buckets=_AGREEMENTS,
            registry=registry,
        )
        self._cache = Counter(
            "vision_gateway_cache_total",
            "Calls that met the cache, by what it did.",
            ["rpc", "outcome"],
            registry=registry,
        )
        self._model_limit = Gauge(
            "vision_gateway_model_limit",
            "Calls that a model is asked at once at most.",
            ["model"],
            multiprocess_mode="livesum",
            registry=registry,
        )
        self._model_queue = Gauge(
            "vision_gateway_model_queue",
            "Calls that wait for a place at a model.",
            ["model"],
            multiprocess_mode="livesum",
            registry=registry,
        )

    def fell_back(self, *, rpc: str, reason: str) -> None:
        """Counts a call that went on to the next model because of *reason*."""
        self._fallbacks.labels(rpc, reason).inc()

    def retried(self, *, model: str, reason: str, outcome: str) -> None:
        """Counts a failure for *reason* that was, or was to be, tried again; *outcome* is `retried` or `refused`."""
        self._retries.labels(model, reason, outcome).inc()

    def escalated(self, *, rpc: str, model: str, reason: str) -> None:
        """Counts an answer of *model* that was passed over because of *reason*."""
        self._escalations.labels(rpc, model, reason).inc()

    def hedged(self, *, rpc: str, outcome: str) -> None:
        """Counts a call for which two models were asked; *outcome* is `first`, `second` or `failed`."""
        self._hedges.labels(rpc, outcome).inc()

    def shadowed(self, *, rpc: str, model: str, outcome: str) -> None:
        """Counts a call made to a shadow model; *outcome* is `answered`, `failed` or `dropped`."""
        self._shadows.labels(rpc, model, outcome).inc()

    def agreement(self, *, rpc: str, model: str, other: str, ratio: float) -> None:
        """Records how far the answers of *model*, which was given, and of *other* agree, in [0, 1]."""
        self._agreement.labels(rpc, model, other).observe(ratio)

    def cached(self, *, rpc: str, outcome: str) -> None:
        """Counts a call; *outcome* is `hit`, `miss`, `coalesced`, `bypass`, `refresh` or `error`."""
        self._cache.labels(rpc, outcome).inc()

    def model_limit(self, model: str, calls: int) -> None:
        """Records how many calls *model* is asked at once at most."""
        self._model_limit.labels(model).set(calls)

    def model_queue(self, model: str, calls: int) -> None:
        """Records how many calls wait for a place at *model*."""
        self._model_queue.labels(model).set(calls)
