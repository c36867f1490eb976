"""Adds up how the calls of a replay ended."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.errors import Overloaded
from gateway.simulation.expectation import expected
from gateway.simulation.scripts import Drawn

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from fractions import Fraction

    from gateway.simulation.replay import Simulation
    from gateway.simulation.trace import Call

AS_CALLED = "(as called)"


@dataclass(frozen=True, slots=True)
class Figures:
    """What one route made of all calls.

    *right* counts the calls answered rightly, *models* those that each model answered, *cached* those whose answer was
    there already or under way, *failures* those that nobody answered, by reason. *escalations* counts answers passed
    over, by what was doubtful about them. *cost_nano_usd* is what all attempts cost together, those of shadows too.
    *p50_s* and *p95_s* are seconds from arrival to answer; None without any answer. *expected_right*, a probability,
    and *expected_cost_nano_usd* are for one call on average, reckoned exactly; None where they cannot be.
    """

    route: str
    calls: int
    right: int
    cost_nano_usd: int
    p50_s: float | None
    p95_s: float | None
    models: Mapping[str, int]
    cached: int
    escalations: Mapping[str, int]
    failures: Mapping[str, int]
    expected_right: Fraction | None
    expected_cost_nano_usd: Fraction | None

    @property
    def answered(self) -> int:
        """How many calls got an answer."""
        return sum(self.models.values())

    @property
    def shed(self) -> int:
        """How many calls were turned away because too many were under way."""
        return self.failures.get(Overloaded.reason, 0)

    @property
    def share_right(self) -> float:
        """The share of all calls that were answered rightly."""
        return self.right / self.calls

    @property
    def standard_error(self) -> float:
        """The standard error of that share, were the calls drawn independently."""
        return math.sqrt(self.share_right * (1 - self.share_right) / self.calls)


def figures(simulation: Simulation, calls: Sequence[Call], *, route: str | None = None) -> Figures:
    """Replays *calls*, at least one and in the order of time, on *route* or, without one, as each of them says.

    Raises `SettingsError` with every problem of the models.
    """
    named = {str(number): call for number, call in enumerate(calls)}
    script = Drawn(named, simulation.behaviours, simulation.seed, simulation.alike)
    replayed = simulation.replay(named, script, route=route)
    foreseen = expected(simulation, calls, route=route)
    ends = replayed.ends
    answered = [end for end in ends if not end.reason]
    seconds = sorted(end.seconds for end in answered)
    return Figures(
        route=AS_CALLED if route is None else route,
        calls=len(ends),
        right=sum(end.right for end in ends),
        cost_nano_usd=sum(end.cost_nano_usd for end in ends) + replayed.aside_nano_usd,
        p50_s=_percentile(seconds, 0.50),
        p95_s=_percentile(seconds, 0.95),
        models=_counted([end.model for end in answered]),
        cached=sum(end.cached for end in ends),
        escalations=dict(sorted(replayed.escalations.items())),
        failures=_counted([end.reason for end in ends if end.reason]),
        expected_right=foreseen.right if foreseen else None,
        expected_cost_nano_usd=foreseen.cost_nano_usd if foreseen else None,
    )


def _counted(names: Sequence[str]) -> dict[str, int]:
    return dict(sorted(Counter(names).items()))


def _percentile(ordered: Sequence[float], share: float) -> float | None:
    """Gives a percentile by nearest rank."""
    return ordered[math.ceil(share * len(ordered)) - 1] if ordered else None
