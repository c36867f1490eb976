"""Chooses which models to ask, and in which order."""

from __future__ import annotations

from dataclasses import dataclass
from textwrap import shorten
from typing import TYPE_CHECKING

from gateway.domain import Offer
from gateway.errors import BackendUnavailable, Forbidden, GatewayError, UnknownModel, UnsupportedByModel
from gateway.policies import pass_by
from gateway.policies._order import Order, Rule

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from random import Random

    from gateway.domain import Answer, Ask
    from gateway.latency import Latency
    from gateway.metrics import Metrics
    from gateway.policies import Candidate, Model

__all__ = ["DEFAULT", "Route", "Rule"]

DEFAULT = "default"
# Characters, so that a message says all that it is to say: what has more than 512 bytes is cut.
_LONGEST_NAME, _LONGEST_LIST = 100, 300


@dataclass(frozen=True, slots=True)
class _Choice:
    """Whom to ask, in order, and why nobody asks the others that were listed; *route* is empty for a pin alone."""

    route: str
    candidates: Sequence[Candidate]
    unable: Mapping[str, UnsupportedByModel]


class Route:
    """Follows the caller's pin, or the named route, or the default route of the task.

    A route named after an RPC in lower case, such as `detect`, serves that RPC when the caller names none. Models that
    cannot do the call are left out before anybody is asked.
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
        self._order = Order(latency, random)

    async def answer(self, ask: Ask) -> Answer:
        """Asks the chosen models in turn.

        Raises `UnknownModel` for a name that is not configured, `Forbidden` for what its principal may not use, and
        `UnsupportedByModel` where no model can.
        """
        choice = self._choose(ask, draws=True)
        for name, cause in choice.unable.items():
            pass_by(ask, name, cause.reason, self._metrics)
        if not choice.candidates:
            raise _nobody_can(choice.unable)
        return await self._try_in_turn(choice.route, choice.candidates).answer(ask)

    def offers(self, ask: Ask) -> list[Offer]:
        """Prices *ask* at each model that would be asked, in that order, then names those that cannot.

        Where chance decides, in the likeliest order. Raises like `answer` for a name.
        """
        choice = self._choose(ask, draws=False)
        rpc = ask.query.rpc
        unable = (
            Offer(name, None, cause.reason, self._latency.expected_s(rpc, name))
            for name, cause in choice.unable.items()
        )
        order = choice.candidates
        return [*(self._offer(each, order[position:], ask) for position, each in enumerate(order, start=1)), *unable]

    def able(self, ask: Ask, named: Sequence[str] = ()) -> list[str]:
        """Lists the models that are *named*, or where none is, every configured one that can answer *ask*.

        Routes do not matter. Raises `UnknownModel`, `Forbidden`, and `UnsupportedByModel` where none is named and none
        can.
        """
        for name in named:
            self._named(ask, name)
        if named:
            return list(named)
        allowed = [each for each in self._candidates.values() if ask.rights.may_ask(each.name)]
        if not allowed:
            raise Forbidden("no model is configured that you may ask", metadata={"rule": "models"})
        if ask.options.local_only:
            allowed = [each for each in allowed if each.local]
        if not allowed:
            any_local = any(each.local for each in self._candidates.values())
            why = "none of the models that you may ask is local" if any_local else "no local model is configured"
            raise UnsupportedByModel(f"{why}, and local_only keeps this call from the others")
        costs, unable = _priced(allowed, ask)
        if not costs:
            raise _nobody_can(unable)
        return list(costs)

    def serves(self, rpc: str) -> bool:
        """Tells whether there is a route that is named after *rpc*."""
        return rpc.lower() in self._routes

    async def ready(self) -> bool:
        """Tells whether any model is ready."""
        return any([await candidate.model.ready() for candidate in self._candidates.values()])

    def _offer(self, candidate: Candidate, later: Sequence[Candidate], ask: Ask) -> Offer:
        latency_s = self._latency.expected_s(ask.query.rpc, candidate.name)
        limit = ask.options.max_cost_nano_usd
        quote = candidate.quote(ask)
        try:
            if limit is not None:
                quote = candidate.quote(candidate.fit(ask, limit))
        except GatewayError as exc:
            return Offer(candidate.name, quote, exc.reason, latency_s)
        passes = not candidate.may_answer and any(each.may_answer for each in later)
        return Offer(candidate.name, quote, BackendUnavailable.reason if passes else "", latency_s)

    def _choose(self, ask: Ask, *, draws: bool) -> _Choice:
        options = ask.options
        pinned, name = self._pinned(ask), self._name(ask)
        rule = self._routes[name]
        listed = [self._candidates[model] for model in rule.models if ask.rights.may_ask(model)]
        if pinned:
            listed = [pinned, *(each for each in listed if each is not pinned)] if options.allow_fallback else [pinned]
        if not listed:
            raise Forbidden(f"the route {name!r} has no model that you may ask", metadata={"rule": "models"})
        if options.local_only:
            listed = [candidate for candidate in listed if candidate.local]
            if not listed:
                raise UnsupportedByModel("no local model serves this call, and local_only keeps it from the others")
        costs, unable = _priced(listed, ask)
        able = [candidate for candidate in listed if candidate.name in costs]
        first = [candidate for candidate in able if candidate is pinned]
        others = [candidate for candidate in able if candidate is not pinned]
        order, why = self._order.of(rule, others, costs, ask, draws=draws) if others else ([], "")
        ask.trace.route_reason = "pinned" if first else ",".join(filter(None, (f"route:{name}", why)))
        order = [*first, *order]
        return _Choice(
            "" if pinned and not options.allow_fallback else name,
            order[:1] if options.allow_fallback is False else order,
            unable,
        )

    def _pinned(self, ask: Ask) -> Candidate | None:
        pinned = ask.options.model
        return self._named(ask, pinned) if pinned else None

    def _named(self, ask: Ask, name: str) -> Candidate:
        if name not in self._candidates:
            raise _unknown("model", name, filter(ask.rights.may_ask, self._candidates))
        ask.rights.check_model(name)
        return self._candidates[name]

    def _name(self, ask: Ask) -> str:
        name, rights = ask.options.route, ask.rights
        if name:
            if name not in self._routes:
                raise _unknown("route", name, filter(rights.may_follow, self._routes))
            rights.check_route(name)
            return name
        usual = [ask.query.rpc.lower(), DEFAULT, *(rights.routes or ())]
        # Settings that bound the routes name one at least, and none that is not there.
        return next(each for each in usual if each in self._routes and rights.may_follow(each))


def _priced(candidates: Iterable[Candidate], ask: Ask) -> tuple[dict[str, int], dict[str, UnsupportedByModel]]:
    """Gives what *ask* is expected to cost at each model that can do it, and why the others cannot."""
    costs: dict[str, int] = {}
    unable: dict[str, UnsupportedByModel] = {}
    rpc = ask.query.rpc
    for candidate in candidates:
        if candidate.tasks is not None and not {part.rpc for part in ask.query.parts} <= candidate.tasks:
            served = ", ".join(sorted(candidate.tasks))
            unable[candidate.name] = UnsupportedByModel(f"{candidate.name} is not asked for {rpc}, only for {served}")
            continue
        try:
            costs[candidate.name] = candidate.quote(ask).expected_cost
        except UnsupportedByModel as exc:
            # Its traceback leads back here: a cycle would keep the call's images until the collector runs.
            unable[candidate.name] = exc.with_traceback(None)
    return costs, unable


def _nobody_can(unable: Mapping[str, UnsupportedByModel]) -> UnsupportedByModel:
    if len(unable) == 1:
        return next(iter(unable.values()))
    return UnsupportedByModel(
        f"no model can do this call: {'; '.join(map(str, unable.values()))}",
        metadata={"attempts": ",".join(f"{name}:{cause.reason}" for name, cause in unable.items())},
    )


def _unknown(kind: str, name: str, known: Iterable[str]) -> UnknownModel:
    name = name[:_LONGEST_NAME]
    listed = shorten(", ".join(sorted(known)), _LONGEST_LIST, placeholder=" and others") or "none"
    return UnknownModel(f"no {kind} is named {name!r}; there are: {listed}", metadata={"kind": kind, "name": name})
