"""Policies are models that wrap a model: one small file each, stacked in `compose/model.py`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from gateway import tracing
from gateway.domain import Answer, Ask, Attempt, Outcome, Quote

if TYPE_CHECKING:
    from gateway.metrics import Metrics


class Model(Protocol):
    """Whatever can answer an ask: a model behind its profile, or a policy around one or several."""

    async def answer(self, ask: Ask) -> Answer:
        """Answers *ask* before its deadline, or raises a `GatewayError`."""
        ...

    async def ready(self) -> bool:
        """Tells whether an ask would find somebody to answer it now."""
        ...


@dataclass(frozen=True, slots=True)
class Candidate:
    """One configured model and what a router must know of it.

    *local* is false for models of third parties. *quality* is the share of correct answers in [0, 1], `overall` and by
    category; empty is unknown. *tasks* are the RPCs that it may be asked; None is any. *streams* says that its text
    comes as it is written. *is_open* tells whether the model would turn a call away now because it failed too often,
    *is_ready* whether it was ready when it was last looked at.
    """

    name: str
    model: Model
    local: bool
    quality: Mapping[str, float]
    quote: Callable[[Ask], Quote]
    fit: Callable[[Ask, int], Ask]
    is_open: Callable[[], bool] = lambda: False
    tasks: frozenset[str] | None = None
    streams: bool = False
    is_ready: Callable[[], bool] = lambda: True

    @property
    def may_answer(self) -> bool:
        """Whether it is to be expected that an ask would be answered now."""
        return self.is_ready() and not self.is_open()


def pass_by(ask: Ask, model: str, reason: str, metrics: Metrics, *, seconds: float = 0.0, shed: bool = False) -> None:
    """Puts on the call's record and in the metrics that *model* was not asked, for *reason*.

    With *shed* it was turned away for what its principal may have.
    """
    ask.trace.attempts.append(Attempt(model, Outcome.SKIPPED, reason, seconds))
    metrics.skipped(rpc=ask.query.rpc, model=model, reason=reason)
    tracing.event("skipped", model=model, reason=reason)
    if shed:
        metrics.shed(reason)
