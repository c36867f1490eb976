"""Stacks the policies that choose among models, around all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.policies.fallback import Fallback
from gateway.policies.route import Route, Rule
from gateway.policies.save import Save

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AsyncExitStack

    from gateway.compose.model import Shared
    from gateway.policies import Candidate, Model
    from gateway.settings import RouteSettings, Settings


def open_routing(
    settings: Settings,
    candidates: Mapping[str, Candidate],
    shared: Shared,
    stack: AsyncExitStack,  # noqa: ARG001  for policies that have something to close
) -> tuple[Model, Route]:
    """Gives the outermost policy, and the one that knows whom an ask would go to; open until *stack* ends.

    *stack* ends after the last call that is routed so, and before the models of *candidates* close.

    Outermost first: Save -> Route -> Fallback -> for each model what `compose/model.py` says.
    """
    metrics, clock = shared.metrics, shared.clock

    def try_in_turn(_: str, models: Sequence[Candidate]) -> Model:
        return Fallback(models, latency=shared.latency, metrics=metrics, clock=clock)

    route = Route(
        candidates,
        {name: _rule(route) for name, route in settings.all_routes.items()},
        try_in_turn=try_in_turn,
        latency=shared.latency,
        metrics=metrics,
        random=shared.random,
    )
    quotes = [candidate.quote for candidate in candidates.values()]
    return Save(route, quotes=quotes, metrics=metrics), route


def _rule(route: RouteSettings) -> Rule:
    return Rule(route.models, route.choose, route.weights, route.tolerance)
