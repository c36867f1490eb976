"""What every simulated model will answer: drawn at random, or every possible way at once."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from itertools import product
from random import Random
from typing import TYPE_CHECKING

from gateway.simulation.answers import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from gateway.simulation.behaviour import Behaviour
    from gateway.simulation.trace import Call

_VERDICTS = tuple(Verdict(right, doubtful) for right in (True, False) for doubtful in (False, True))


@dataclass(frozen=True, slots=True)
class Drawn:
    """Draws each verdict by its share; equal seeds draw alike for equal calls and models, whatever else is asked.

    A model says the same of the same picture each time.
    """

    calls: Mapping[str, Call]
    behaviours: Mapping[str, Behaviour]
    seed: int

    def verdict(self, call: str, model: str) -> Verdict:
        """Tells what the answer of *model* to the call with this id is worth."""
        asked = self.calls[call]
        random = Random(f"{self.seed}:{asked.rpc}:{asked.image or call}:{model}")  # noqa: S311  it keeps nothing secret
        behaviour = self.behaviours[model]
        right = random.random() < behaviour.share_right(asked.category)
        doubtful = random.random() < (behaviour.false_alarms if right else behaviour.noticed)
        return Verdict(right, doubtful)


@dataclass(frozen=True, slots=True)
class Given:
    """Has every verdict written out, by id of call and name of model."""

    verdicts: Mapping[str, Mapping[str, Verdict]]

    def verdict(self, call: str, model: str) -> Verdict:
        """Tells what the answer of *model* to the call with this id is worth."""
        return self.verdicts[call][model]


def every_way(category: str, behaviours: Mapping[str, Behaviour]) -> Iterator[tuple[Fraction, dict[str, Verdict]]]:
    """Yields every way in which the models may answer a call of *category*, and how probable it is, never 0.

    The probabilities add up to 1; models' verdicts are independent.
    """
    for verdicts in product(_VERDICTS, repeat=len(behaviours)):
        share = Fraction(1)
        for verdict, behaviour in zip(verdicts, behaviours.values(), strict=True):
            share *= _share(verdict, behaviour, category)
        if share:
            yield share, dict(zip(behaviours, verdicts, strict=True))


def _share(verdict: Verdict, behaviour: Behaviour, category: str) -> Fraction:
    right = behaviour.share_right(category)
    doubtful = behaviour.false_alarms if verdict.right else behaviour.noticed
    return (right if verdict.right else 1 - right) * (doubtful if verdict.doubtful else 1 - doubtful)
