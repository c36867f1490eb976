"""Reads the fields of one element of a model's answer."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Protocol, TypeVar


class Scored(Protocol):
    """Whatever a model may have given a confidence."""

    @property
    def score(self) -> float | None: ...


ScoredT = TypeVar("ScoredT", bound=Scored)


def clean(text: str) -> str:
    """Gives *text* with what protobuf cannot carry, halves of surrogate pairs, replaced by U+FFFD."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def string(record: Mapping[str, object], keys: Iterable[str]) -> str | None:
    """Gives what *record* has under the first of *keys* with a text or whole number, as clean text, or None."""
    for key in keys:
        value = record.get(key)
        if isinstance(value, str | int) and not isinstance(value, bool):
            return clean(_digits(value) if isinstance(value, int) else value)
    return None


def _digits(value: int) -> str:
    try:
        return str(value)
    except ValueError:  # Python refuses to write out thousands of digits.
        return ""


def number(value: object) -> float | None:
    """Gives the finite number that *value* is or spells; None if it is none."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        spelled = float(value)
    except (ValueError, OverflowError):
        return None
    return spelled if math.isfinite(spelled) else None


def score(record: Mapping[str, object]) -> float | None:
    """Gives the confidence that *record* states in [0, 1]; a percentage is none, for 1 could be either."""
    for key in ("score", "confidence", "probability"):
        value = number(record.get(key))
        if value is not None:
            return value if 0 <= value <= 1 else None
    return None


def surest_first(found: Iterable[ScoredT]) -> list[ScoredT]:
    """Puts the surest first where all have a score, else keeps the model's own order."""
    listed = list(found)
    if any(each.score is None for each in listed):
        return listed
    return sorted(listed, key=lambda each: each.score or 0.0, reverse=True)
