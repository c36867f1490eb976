"""Chooses which models to ask, and in which order."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from gateway.domain import Offer, Priority
from gateway.errors import GatewayError, UnknownModel, UnsupportedByModel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from gateway.domain import Answer, Ask
    from gateway.policies import Candidate, Model

DEFAULT = "default"


class Route:
    """Follows the caller's pin, or the named route, or the default route of the task.

    A route is an order of model names; one named after an RPC in lower case, such as `detect`, serves that RPC when the
    caller names none.
    """

    def __init__(
        self,
        candidates: Mapping[str, Candidate],
        routes: Mapping[str, Sequence[str]],
        *,
        try_in_turn: Callable[[Sequence[Candidate]], Model],
        expected_s: Callable[[str, str], float | None] = lambda _, __: None,
    ) -> None:
        """*routes* has at least `default`; every name in it is a key of *candidates*.

        *expected_s* tells how long a call of an RPC to a model takes, where that is known.
        """
        self._expected_s = expected_s
        self._candidates = candidates
        self._routes = routes
        self._try_in_turn = try_in_turn

    async def answer(self, ask: Ask) -> Answer:
        """Asks the chosen models in turn; raises `UnknownModel` for a name that is not configured."""
        return await self._try_in_turn(self._choose(ask)).answer(ask)

    def offers(self, ask: Ask) -> list[Offer]:
        """Prices *ask* at each model that would be asked, in that order; raises like `answer` for an unknown name."""
        return [self._offer(candidate, ask) for candidate in self._choose(ask)]

    async def ready(self) -> bool:
        """Tells whether any model is ready."""
        return any([await candidate.model.ready() for candidate in self._candidates.values()])

    def _offer(self, candidate: Candidate, ask: Ask) -> Offer:
        latency_s = self._expected_s(ask.query.rpc, candidate.name)
        limit = ask.options.max_cost_nano_usd
        quote = None
        try:
            quote = candidate.quote(ask)
            if limit is not None:
                quote = candidate.quote(candidate.fit(ask, limit))
        except GatewayError as exc:
            return Offer(candidate.name, quote, exc.reason, latency_s)
        return Offer(candidate.name, quote, "", latency_s)

    def _choose(self, ask: Ask) -> list[Candidate]:
        options = ask.options
        pinned = options.model
        order = self._ordered(self._on_route(ask), ask)
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
        return order[:1] if options.allow_fallback is False else order

    def _on_route(self, ask: Ask) -> list[Candidate]:
        name = ask.options.route
        if name and name not in self._routes:
            raise _unknown("route", name, self._routes)
        rpc = ask.query.rpc.lower()
        name = name or (rpc if rpc in self._routes else DEFAULT)
        ask.trace.route_reason = f"route:{name}"
        return [self._candidates[model] for model in self._routes[name]]

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
