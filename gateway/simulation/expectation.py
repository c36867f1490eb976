"""What a route gives on average, reckoned exactly: every way in which the models may answer, tried once and weighed."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from gateway.simulation.replay import Simulation
from gateway.simulation.scripts import Given, every_way

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gateway.settings import RouteSettings, Settings
    from gateway.simulation.answers import Verdict
    from gateway.simulation.trace import Call

# Beyond so many calls sampling is quicker, and as good.
_MOST = 20_000
# Seconds between two calls, so that none feels another: more than any call may take.
_APART_S = 10_000.0


@dataclass(frozen=True, slots=True)
class Expected:
    """What one call gives on average: the probability that it is answered rightly, and its cost in nano-USD."""

    right: Fraction
    cost_nano_usd: Fraction


def expected(simulation: Simulation, calls: Iterable[Call], *, route: str | None = None) -> Expected | None:
    """Averages over *calls*, each made alone, by models that take and write their medians and never fail.

    None where the policies leave the outcome to chance, to the load or to earlier calls, and where there are too many
    ways.
    """
    settings = simulation.settings
    rules = _rules(settings, route)
    calls = list(calls)
    is_cached = settings.cache.store != "off" and any(call.image for call in calls)
    if is_cached or any(map(_depends, rules)):
        return None
    named = {model for rule in rules for model in rule.named}
    alone = {
        name: behaviour.model_copy(
            update={"output_spread": 0.0, "seconds_spread": 0.0, "failures": 0.0, "capacity": None}
        )
        for name, behaviour in simulation.behaviours.items()
    }
    asked = {name: behaviour for name, behaviour in alone.items() if name in named}
    counts = Counter(call.model_copy(update={"at_s": 0.0, "image": ""}) for call in calls)
    made: dict[str, Call] = {}
    verdicts: dict[str, dict[str, Verdict]] = {}
    weights: list[Fraction] = []
    for call, count in counts.items():
        for share, verdict in every_way(call.category, asked, alike=simulation.alike):
            name = str(len(made))
            made[name] = call.model_copy(update={"at_s": len(made) * _APART_S})
            verdicts[name] = verdict
            weights.append(share * Fraction(count, counts.total()))
        if len(made) > _MOST:
            return None
    ends = Simulation(settings, alone, simulation.seed).replay(made, Given(verdicts), route=route).ends
    weighed = list(zip(weights, ends, strict=True))
    return Expected(
        right=sum((weight for weight, end in weighed if end.right), Fraction(0)),
        cost_nano_usd=sum((weight * end.cost_nano_usd for weight, end in weighed), Fraction(0)),
    )


def _rules(settings: Settings, route: str | None) -> list[RouteSettings]:
    rules = settings.all_routes
    return list(rules.values()) if route is None else [rules[route]]


def _depends(rule: RouteSettings) -> bool:
    """Tells whether what becomes of a call depends on more than what the models answer."""
    by_sampling = rule.agreement is not None and rule.agreement.share < 1
    return rule.choose in {"weights", "fastest"} or by_sampling or rule.hedge is not None or rule.shadow is not None
