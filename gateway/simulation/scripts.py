"""What every simulated model will answer: drawn at random, or every possible way at once."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise, product
from math import prod
from random import Random
from typing import TYPE_CHECKING

from gateway.simulation.answers import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from gateway.simulation.behaviour import Behaviour
    from gateway.simulation.trace import Call


@dataclass(frozen=True, slots=True)
class Drawn:
    """Draws each verdict by its share; equal seeds draw alike for equal calls and models, whatever else is asked.

    A model says the same of the same picture each time. Models that err *alike* are wrong at the same calls, as far as
    their shares let them; else independently.
    """

    calls: Mapping[str, Call]
    behaviours: Mapping[str, Behaviour]
    seed: int
    alike: bool = False

    def verdict(self, call: str, model: str) -> Verdict:
        """Tells what the answer of *model* to the call with this id is worth."""
        asked, behaviour = self.calls[call], self.behaviours[model]
        call_key = f"{self.seed}:{asked.rpc}:{asked.image or call}"
        own = Random(f"{call_key}:{model}")  # noqa: S311  it keeps nothing secret
        luck = own.random()
        if self.alike:
            luck = Random(call_key).random()  # noqa: S311  likewise
        right = luck < behaviour.share_right(asked.category)
        return Verdict(right, own.random() < behaviour.share_doubtful(right=right))


@dataclass(frozen=True, slots=True)
class Given:
    """Has every verdict written out, by id of call and name of model."""

    verdicts: Mapping[str, Mapping[str, Verdict]]

    def verdict(self, call: str, model: str) -> Verdict:
        """Tells what the answer of *model* to the call with this id is worth."""
        return self.verdicts[call][model]


def every_way(
    category: str, behaviours: Mapping[str, Behaviour], *, alike: bool = False
) -> Iterator[tuple[Fraction, dict[str, Verdict]]]:
    """Yields every way in which the models may answer a call of *category*, and how probable it is, never 0.

    The probabilities add up to 1. *alike* is as for `Drawn`; which answers are doubtful is independent in any case.
    """
    shares = [behaviour.share_right(category) for behaviour in behaviours.values()]
    for probability, rights in (_alike if alike else _independent)(shares):
        for doubtful in product((False, True), repeat=len(shares)):
            share = probability
            for right, doubted, behaviour in zip(rights, doubtful, behaviours.values(), strict=True):
                share *= _or_not(behaviour.share_doubtful(right=right), doubted)
            if share:
                yield share, dict(zip(behaviours, map(Verdict, rights, doubtful), strict=True))


def _independent(shares: Sequence[Fraction]) -> Iterator[tuple[Fraction, tuple[bool, ...]]]:
    for rights in product((True, False), repeat=len(shares)):
        yield prod(map(_or_not, shares, rights), start=Fraction(1)), rights


def _alike(shares: Sequence[Fraction]) -> Iterator[tuple[Fraction, tuple[bool, ...]]]:
    for low, high in pairwise(sorted({Fraction(0), *shares, Fraction(1)})):
        yield high - low, tuple(share >= high for share in shares)


def _or_not(share: Fraction, is_so: bool) -> Fraction:  # noqa: FBT001  mapped over
    return share if is_so else 1 - share
