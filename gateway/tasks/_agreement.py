"""How far two answers to one query agree, in [0, 1]; symmetric, and 1 for equal answers."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence, Set as AbstractSet
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.tasks._words import numbers, words

if TYPE_CHECKING:
    from typing import TypeAlias

    from gateway.tasks._boxes import Box
    from gateway.tasks._questions import Sort

    # A box, and its place in the list that it comes from.
    _Placed: TypeAlias = tuple[int, Box]

_LEAST_IOU = 0.5
# Boxes of each answer that are compared: each with each takes some 30 ms on one core.
_MOST_BOXES = 200


@dataclass(frozen=True, slots=True)
class Match:
    """Two objects that are taken for the same: their places in the two answers, and the IoU of their boxes."""

    first: int
    second: int
    iou: float


def of_sets(first: AbstractSet[str], second: AbstractSet[str]) -> float:
    """Gives the share of all members that both have (Jaccard 1901)."""
    union = first | second
    return len(first & second) / len(union) if union else 1.0


def of_words(first: str, second: str) -> float:
    """Gives the harmonic mean of the shares of words that the two have in common: F1, as SQuAD has it.

    Rajpurkar et al. 2016, "SQuAD: 100,000+ Questions for Machine Comprehension of Text", section 6.1.
    """
    return _f1(words(first), words(second))


def of_replies(first: str, second: str, sort: Sort) -> float:
    """Gives 1 or 0 where both say what a question of *sort* asks, a number or yes or no; else as `of_answers`."""
    said, said_too = sort.said(words(first)), sort.said(words(second))
    if said and said_too:
        return float(said == said_too)
    return of_answers(first, second)


def of_answers(first: str, second: str) -> float:
    """Gives the F1 of the words of two answers; 0 where both have numbers that are not the same ones."""
    a, b = words(first), words(second)
    counted, counted_too = set(numbers(a)), set(numbers(b))
    if counted and counted_too and counted != counted_too:
        return 0.0
    return _f1(a, b)


def of_fields(first: object, second: object) -> float:
    """Gives the mean agreement of the fields of two JSON values; a field that one of them lacks counts as 0.

    Elements of lists are compared by their place, texts like answers, all else by equality.
    """
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        names = sorted(first.keys() | second.keys())
        both = first.keys() & second.keys()
        return _mean([of_fields(first[name], second[name]) if name in both else 0.0 for name in names])
    if isinstance(first, list) and isinstance(second, list):
        shared = [of_fields(one, other) for one, other in zip(first, second, strict=False)]
        return _mean(shared + [0.0] * abs(len(first) - len(second)))
    if isinstance(first, str) and isinstance(second, str):
        return of_answers(first, second)
    return float(type(first) is type(second) and first == second)


def of_boxes(first: Sequence[tuple[str, Box]], second: Sequence[tuple[str, Box]]) -> float:
    """Gives the panoptic quality of two lists of labelled boxes: F1 times the mean IoU of the boxes that match.

    Kirillov et al. 2019, "Panoptic Segmentation", section 4.1: the sum of the matches' IoU over the matches and half of
    what is left of both. Boxes match if label and place do, IoU at 0.5 or more; where several do, the closest first.
    Of hundreds of boxes, the first 200 of each list are compared.
    """
    if not first and not second:
        return 1.0
    first, second = first[:_MOST_BOXES], second[:_MOST_BOXES]
    return 2 * math.fsum(match.iou for match in matches(first, second)) / (len(first) + len(second))


def matches(first: Sequence[tuple[str, Box]], second: Sequence[tuple[str, Box]]) -> list[Match]:
    """Lists the boxes that match, as `of_boxes` has it, the closest first; each box is in one match at most."""
    by_label: defaultdict[str, tuple[list[_Placed], list[_Placed]]] = defaultdict(lambda: ([], []))
    for side, boxes in enumerate((first[:_MOST_BOXES], second[:_MOST_BOXES])):
        for index, (label, box) in enumerate(boxes):
            by_label[label][side].append((index, box))
    found = [match for sides in by_label.values() for match in _matches(*sides)]
    return sorted(found, key=lambda match: (-match.iou, match.first))


def iou(a: Box, b: Box) -> float:
    """Gives the area that two boxes share over the area that they cover together; 1 for equal boxes of no extent."""
    if a == b:
        return 1.0
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return shared / (_area(a) + _area(b) - shared)


def _matches(first: Sequence[_Placed], second: Sequence[_Placed]) -> list[Match]:
    """Matches boxes of one label."""
    pairs = [
        # The boxes themselves settle ties, in the same way whichever list comes first.
        (-shared, min(a, b), max(a, b), row, column)
        for row, a in first
        for column, b in second
        if (shared := iou(a, b)) >= _LEAST_IOU
    ]
    rows: set[int] = set()
    columns: set[int] = set()
    found: list[Match] = []
    for negative, _, __, row, column in sorted(pairs):
        if row not in rows and column not in columns:
            rows.add(row)
            columns.add(column)
            found.append(Match(row, column, -negative))
    return found


def _area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def _f1(a: Sequence[str], b: Sequence[str]) -> float:
    if not a and not b:
        return 1.0
    return 2 * (Counter(a) & Counter(b)).total() / (len(a) + len(b))


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if values else 1.0
