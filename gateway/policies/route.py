"""Chooses which models to ask, and in which order."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from gateway.domain import Offer, Priority
from gateway.errors import GatewayError, UnknownModel, UnsupportedByModel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from random import Random

    from gateway.domain import Answer, Ask
    from gateway.latency import Latency
    from gateway.metrics import Metrics
    from gateway.policies import Candidate, Model

DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class Rule:
    """One route: its models by name, and how to choose among them; `RouteSettings` says what the fields mean."""

    models: tuple[str, ...]
    choose: Literal["order", "weights", "cheapest", "fastest", "quality"] = "order"
    weights: Mapping[str, float] = field(default_factory=dict)
    tolerance: float = 0.0


class Route:
    """Follows the caller's pin, or the named route, or the default route of the task.

    A route named after an RPC in lower case, such as `detect`, serves that RPC when the caller names none.
    """

    def __init__(
        self,
        candidates: Mapping[str, Candidate],
        routes: Mapping[str, Rule],
        *,
        try_in_turn: Callable[[str, Sequence[Candidate]], Model],
        latency: Latency,
        metrics: Metrics,
        random: Random,
    ) -> None:
        """*routes* has at least `default`; every name in it is a key of *candidates*.

        *try_in_turn* gets the name of the route that is followed, empty for a pinned model alone, and the models in the
        order in which they are to be asked. *latency* knows how long they take; *random* draws.
        """
        self._candidates = candidates
        self._routes = routes
        self._try_in_turn = try_in_turn
        self._latency = latency
        self._metrics = metrics
        self._random = random

    async def answer(self, ask: Ask) -> Answer:
        """Asks the chosen models in turn; raises `UnknownModel` for a name that is not configured."""
        name, candidates = self._choose(ask)
        return await self._try_in_turn(name, candidates).answer(ask)

    def offers(self, ask: Ask) -> list[Offer]:
        """Prices *ask* at each model that would be asked, in that order; raises like `answer` for an unknown name."""
        return [self._offer(candidate, ask) for candidate in self._choose(ask)[1]]

    async def ready(self) -> bool:
        """Tells whether any model is ready."""
        return any([await candidate.model.ready() for candidate in self._candidates.values()])

    def _offer(self, candidate: Candidate, ask: Ask) -> Offer:
        latency_s = self._latency.expected_s(ask.query.rpc, candidate.name)
        limit = ask.options.max_cost_nano_usd
        quote = None
        try:
            quote = candidate.quote(ask)
            if limit is not None:
                quote = candidate.quote(candidate.fit(ask, limit))
        except GatewayError as exc:
            return Offer(candidate.name, quote, exc.reason, latency_s)
        return Offer(candidate.name, quote, "", latency_s)

    def _choose(self, ask: Ask) -> tuple[str, list[Candidate]]:
        options = ask.options
        pinned = options.model
        name = self._name(ask)
        order = self._ordered([self._candidates[model] for model in self._routes[name].models], ask)
        if pinned:
            if pinned not in self._candidates:
                raise _unknown("model", pinned, self._candidates)
            others = [candidate for candidate in order if candidate.name != pinned] if options.allow_fallback else []
            order = [self._candidates[pinned], *others]
            ask.trace.route_reason = "pinned"
        if options.local_only:
            order = [candidate for candidate in order if candidate.local]
            if not order:
                raise UnsupportedByModel("no local model serves this call, and local_only keeps it from the others")
        if pinned and not options.allow_fallback:
            name = ""
        return name, order[:1] if options.allow_fallback is False else order

    def _name(self, ask: Ask) -> str:
        name = ask.options.route
        if name and name not in self._routes:
            raise _unknown("route", name, self._routes)
        rpc = ask.query.rpc.lower()
        name = name or (rpc if rpc in self._routes else DEFAULT)
        ask.trace.route_reason = f"route:{name}"
        return name

    def _ordered(self, route: list[Candidate], ask: Ask) -> list[Candidate]:
        match ask.options.priority:
            case Priority.BALANCED:
                return route
            case Priority.COST:
                key: Callable[[Candidate], float] = lambda candidate: _expected_cost(candidate, ask)  # noqa: E731
            case Priority.QUALITY:
                key = lambda candidate: -candidate.quality.get("overall", 0.0)  # noqa: E731
        ask.trace.route_reason += f",priority:{ask.options.priority.value}"
        return sorted(route, key=key)


def _expected_cost(candidate: Candidate, ask: Ask) -> float:
    try:
        return candidate.quote(ask).expected_cost
    except UnsupportedByModel:
        # It says so itself when its turn comes; the others may well answer.
        return math.inf


def _unknown(kind: str, name: str, known: Iterable[str]) -> UnknownModel:
    return UnknownModel(
        f"no {kind} is named {name!r}; there are: {', '.join(sorted(known))}",
        metadata={"kind": kind, "name": name[:100]},
    )
