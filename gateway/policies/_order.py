"""In which order the models of a route are asked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from gateway.domain import Priority

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

    from gateway.domain import Ask
    from gateway.latency import Latency
    from gateway.policies import Candidate

# The kind of work that each RPC mostly is, in the categories of Roboflow's comparison (visioncheckup.com), for calls
# that name none.
_CATEGORY = {"OCR": "document", "Detect": "spatial", "Classify": "object", "Caption": "object"}
_OVERALL = "overall"
# Of the calls that want the fastest model, those that find out how fast another one is: one whose time is not known;
# and one that was slower, for models get faster too. The rare ones cost the caller at most the first attempt's share.
_SHARE_FOR_UNKNOWN = 0.05
_SHARE_FOR_SLOWER = 0.01
# Of quality; shares such as 0.8 and 0.7 differ by a little more than 0.1.
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Rule:
    """One route: its models by name, and how to choose among them.

    `order` is as they are listed; `weights` draws the first one, by *weights* in any unit, and goes on as listed;
    `cheapest` and `fastest` go by expected cost and by the learned 95th percentile of the RPC; `quality` goes by the
    share of correct answers in the call's category, and by expected cost among those within *tolerance* of the best.
    """

    models: tuple[str, ...]
    choose: Literal["order", "weights", "cheapest", "fastest", "quality"] = "order"
    weights: Mapping[str, float] = field(default_factory=dict)
    tolerance: float = 0.0


class Order:
    """Puts models in the order of a rule, or of the call's own priority, which wins.

    Models that would not answer now, being paused or seen not ready, come last, unless the rule is an order of its own:
    `order` and `weights` say who is asked first, and such a model passes by itself.
    """

    def __init__(self, latency: Latency, random: Random) -> None:
        """*latency* knows how long models take; *random* draws."""
        self._latency = latency
        self._random = random

    def of(
        self, rule: Rule, candidates: Sequence[Candidate], costs: Mapping[str, int], ask: Ask, *, draws: bool
    ) -> tuple[list[Candidate], str]:
        """Gives *candidates*, those of *rule* that can do the call, in order, and in a word why.

        *costs* are expected for this call, by model. Without *draws*, what is left to chance goes the likeliest way.
        """
        priority = ask.options.priority
        if priority is not Priority.BALANCED:
            wished = Rule(rule.models, "cheapest" if priority is Priority.COST else "quality")
            order, _ = self._by(wished, candidates, costs, ask, draws=draws)
            return order, f"priority:{priority.value}"
        return self._by(rule, candidates, costs, ask, draws=draws)

    def _by(
        self, rule: Rule, candidates: Sequence[Candidate], costs: Mapping[str, int], ask: Ask, *, draws: bool
    ) -> tuple[list[Candidate], str]:
        match rule.choose:
            case "order":
                return list(candidates), ""
            case "weights":
                return self._weighted(candidates, rule.weights, draws=draws), "weights"
            case "cheapest":
                return _cheapest(candidates, costs), "cheapest"
            case "fastest":
                return self._fastest(candidates, ask, draws=draws)
            case "quality":
                return _best(candidates, costs, ask, rule.tolerance), "quality"

    def _weighted(
        self, candidates: Sequence[Candidate], weights: Mapping[str, float], *, draws: bool
    ) -> list[Candidate]:
        shares = [weights.get(candidate.name, 0.0) for candidate in candidates]
        if not any(shares):
            return list(candidates)
        if draws:
            [first] = self._random.choices(candidates, shares)
        else:
            first = candidates[shares.index(max(shares))]
        return _led_by(first, candidates)

    def _fastest(self, candidates: Sequence[Candidate], ask: Ask, *, draws: bool) -> tuple[list[Candidate], str]:
        takes_s = {each.name: self._latency.p95_s(ask.query.rpc, each.name) for each in candidates}
        out = {each.name: not each.may_answer for each in candidates}

        def key(candidate: Candidate) -> tuple[bool, float]:
            seconds = takes_s[candidate.name]
            return out[candidate.name], math.inf if seconds is None else seconds

        order = sorted(candidates, key=key)
        # Without a next model, nobody would make up for a bad guess; where none is known, the first one gets to be.
        if draws and ask.options.allow_fallback is not False and takes_s[order[0].name] is not None:
            others = [each for each in order[1:] if not out[each.name]]
            unknown = [each for each in others if takes_s[each.name] is None]
            share = _SHARE_FOR_UNKNOWN if unknown else _SHARE_FOR_SLOWER
            if others and self._random.random() < share:
                return _led_by(self._random.choice(unknown or others), order), "fastest,explored"
        return order, "fastest"


def _cheapest(candidates: Sequence[Candidate], costs: Mapping[str, int]) -> list[Candidate]:
    return sorted(candidates, key=lambda candidate: (not candidate.may_answer, costs[candidate.name]))


def _best(candidates: Sequence[Candidate], costs: Mapping[str, int], ask: Ask, tolerance: float) -> list[Candidate]:
    known = {each.name: _quality(each, ask) for each in candidates}
    out = {each.name: not each.may_answer for each in candidates}
    # Of those that would answer now; where none would, of all.
    least = max((known[name] for name in known if not out[name]), default=max(known.values())) - tolerance - _ROUNDING

    def key(candidate: Candidate) -> tuple[bool, bool, float]:
        name = candidate.name
        # Of models that nothing is known of, none is as good as another.
        good = -math.inf < least <= known[name]
        return out[name], not good, costs[name] if good else -known[name]

    return sorted(candidates, key=key)


def _quality(candidate: Candidate, ask: Ask) -> float:
    """Gives the share of correct answers in the call's category, as near to it as is known; below 0 if nothing is."""
    for category in (ask.options.category, _CATEGORY.get(ask.query.rpc, _OVERALL), _OVERALL):
        if category in candidate.quality:
            return candidate.quality[category]
    return -math.inf


def _led_by(first: Candidate, candidates: Sequence[Candidate]) -> list[Candidate]:
    return [first, *(candidate for candidate in candidates if candidate is not first)]
