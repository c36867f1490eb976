"""What sort of answer an English question asks for."""

from __future__ import annotations

import re
from enum import Enum, auto
from typing import TYPE_CHECKING

from gateway.tasks._words import numbers

if TYPE_CHECKING:
    from collections.abc import Sequence

_YES_OR_NO = re.compile(r"\byes(?: or |, |/)no\b", re.IGNORECASE)
_POLAR = re.compile(
    r"(?:is|are|was|were|does|do|did|has|have|had|can|could|will|would|should)(?:n't)? [^?]*\?", re.IGNORECASE
)
_NUMBER = re.compile(
    r"\bhow many\b|\bcount the\b|\bwhat number of\b|\b(?:only|just) (?:a|the) (?:\w+ )?number\b", re.IGNORECASE
)
# "Is it red or blue?" asks for one of two, "A) 3 B) 5" for a letter, "If there is none, say NULL" for something else.
_CHOICE = re.compile(r"\bor\b|\bif\b|(?:^|\s)\(?[A-Da-d][).:] ", re.IGNORECASE)
_YES = frozenset({"yes", "yeah", "yep", "true", "correct"})
_NONE = frozenset({"no", "none", "nobody", "nothing"})
_NO = frozenset({"no", "nope", "false", "incorrect"})


class Sort(Enum):
    """What an answer must have to be one: a number, a yes or no, or nothing in particular."""

    NUMBER = auto()
    POLAR = auto()
    OPEN = auto()

    def said(self, tokens: Sequence[str]) -> frozenset[str]:
        """Gives what the words *tokens* of an answer say to such a question; empty where they do not say it."""
        match self:
            case Sort.NUMBER:
                return frozenset(numbers(tokens) or ({"0"} if _NONE & set(tokens) else ()))
            case Sort.POLAR:
                first = next((token for token in tokens if token in _YES | _NO), "")
                return frozenset({"yes" if first in _YES else "no"} if first else ())
            case Sort.OPEN:
                return frozenset()


def sort_of(question: str) -> Sort:
    """Tells the sort of a *question* in English; any other is `OPEN`, and so is a choice from several answers."""
    rest, asks_yes_or_no = _YES_OR_NO.subn(" ", question)
    if _CHOICE.search(rest):
        return Sort.OPEN
    if asks_yes_or_no or _POLAR.fullmatch(rest.strip()):
        return Sort.POLAR
    return Sort.NUMBER if _NUMBER.search(rest) else Sort.OPEN
