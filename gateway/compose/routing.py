"""Stacks the policies that choose among models, around all of them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from gateway.policies.escalate import Escalate, Sample
from gateway.policies.fallback import Fallback
from gateway.policies.hedge import Hedge
from gateway.policies.route import Route, Rule
from gateway.policies.save import Save
from gateway.policies.shadow import Shadow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AsyncExitStack

    from gateway.compose.model import Shared
    from gateway.domain import Answer, Ask
    from gateway.policies import Candidate, Model
    from gateway.settings import AgreementSettings, RouteSettings, Settings, ShadowSettings


def open_routing(
    settings: Settings,
    candidates: Mapping[str, Candidate],
    shared: Shared,
    stack: AsyncExitStack,
) -> tuple[Model, Route]:
    """Gives the outermost policy, and the one that knows whom an ask would go to; open until *stack* ends.

    *stack* ends after the last call that is routed so, and before the models of *candidates* close.

    Outermost first: Save -> Route -> Shadow -> Escalate or Hedge -> Fallback -> for each model what
    `compose/model.py` says.
    """
    metrics, clock = shared.metrics, shared.clock
    routes = settings.all_routes
    shadows = {
        name: _shadow(candidates[route.shadow.model], route.shadow, shared)
        for name, route in routes.items()
        if route.shadow
    }
    for shadow in shadows.values():
        stack.push_async_callback(shadow.aclose)
    fallback = partial(Fallback, latency=shared.latency, metrics=metrics, clock=clock)

    def try_in_turn(name: str, models: Sequence[Candidate]) -> Model:
        model: Model = fallback(models)
        rules = routes.get(name)
        if rules and rules.escalate:
            model = _escalate(models, fallback, rules.agreement, shared)
        elif rules and (hedge := rules.hedge):
            model = Hedge(
                models, in_turn=fallback, after_s=hedge.after_s, latency=shared.latency, metrics=metrics, clock=clock
            )
        return shadows[name].behind(model) if name in shadows else model

    route = Route(
        candidates,
        {name: _rule(route) for name, route in routes.items()},
        try_in_turn=try_in_turn,
        latency=shared.latency,
        metrics=metrics,
        random=shared.random,
    )
    quotes = {name: candidate.quote for name, candidate in candidates.items()}
    return Save(route, quotes=quotes, metrics=metrics), route


def _rule(route: RouteSettings) -> Rule:
    return Rule(route.models, route.choose, route.weights, route.tolerance)


def _escalate(
    models: Sequence[Candidate],
    in_turn: Callable[[Sequence[Candidate]], Model],
    rule: AgreementSettings | None,
    shared: Shared,
) -> Escalate:
    def doubts(ask: Ask, answer: Answer) -> Iterator[str]:
        if answer.doubt:
            yield answer.doubt
        yield from shared.askable[ask.query.rpc].doubts(answer.response, ask.query, ask.options.category)

    def agreement(ask: Ask, first: Answer, second: Answer) -> float:
        return shared.askable[ask.query.rpc].agreement(first.response, second.response, ask.query)

    sample = None
    if rule:
        sample = Sample(share=rule.share, least=rule.least, agreement=agreement, chance=shared.random.random)
    return Escalate(
        models,
        in_turn=in_turn,
        doubts=doubts,
        sample=sample,
        latency=shared.latency,
        metrics=shared.metrics,
        clock=shared.clock,
    )


def _shadow(candidate: Candidate, settings: ShadowSettings, shared: Shared) -> Shadow:
    return Shadow(
        candidate,
        share=settings.share,
        max_inflight=settings.max_inflight,
        max_queue=settings.max_queue,
        agreement=lambda rpc, first, second, query: shared.askable[rpc].agreement(first, second, query),
        metrics=shared.metrics,
        clock=shared.clock,
        random=shared.random,
    )
