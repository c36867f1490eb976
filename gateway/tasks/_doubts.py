"""Why an answer that has its form is doubtful all the same."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import TYPE_CHECKING

from gateway.tasks._words import words

if TYPE_CHECKING:
    from collections.abc import Iterator


class Doubt(StrEnum):
    """What makes an answer doubtful for its task; `docs/routing.md` says each in a sentence."""

    EMPTY_TEXT = "EMPTY_TEXT"
    EMPTY_FIELDS = "EMPTY_FIELDS"
    EVASIVE_ANSWER = "EVASIVE_ANSWER"
    REPEATED_TEXT = "REPEATED_TEXT"
    NO_NUMBER = "NO_NUMBER"
    NO_YES_OR_NO = "NO_YES_OR_NO"
    UNKNOWN_LABELS = "UNKNOWN_LABELS"
    EVERY_LABEL = "EVERY_LABEL"
    USELESS_BOXES = "USELESS_BOXES"
    REPEATED_BOXES = "REPEATED_BOXES"
    SAME_BOX = "SAME_BOX"
    WHOLE_PICTURE = "WHOLE_PICTURE"


_GRAM = 4
# Human text repeats 0.5 % of its 4-grams, text of models in a loop 44 % and more: Welleck et al. 2020, "Neural Text
# Generation with Unlikelihood Training", table 2 (seq-rep-4). Too short a text tells nothing.
_MOST_REPEATED = 0.5
_FEWEST_GRAMS = 16
# Where an answer in English that speaks of itself, and not of the picture, begins.
_OPENING = 200
_EVASION = re.compile(
    r"""
      (?:i\ am\ |i'm\ )?(?:very\ |so\ )?(?:sorry|unable)\b
    | i\ apologi[sz]e\b
    | (?:i'm\ afraid,?\ |unfortunately,?\ |sorry,?\ but\ )?
      i\ (?:cannot|can't|can\ not|could\ not|couldn't|am\ unable|am\ not\ able|do\ not|don't)\ (?:\w+\ )?
      (?:see|view|read|tell|determine|identify|provide|help|assist|answer|analy[sz]e|describe|know|have|make)\b
    | as\ an\ ai\b
    | (?:there\ is|the\ (?:image|picture|photo)\ (?:contains|has|shows))\ no\ (?:\w+\ ){0,2}text\b
    | (?:there\ is\ )?no\ (?:image|picture|photo)\ (?:\w+\ )?(?:provided|attached|uploaded)\b
    | please\ (?:provide|upload|share|attach)\b
    | it\ is\ (?:not\ possible|impossible)\ to\b
    """,
    re.VERBOSE,
)


def of_text(text: str) -> Iterator[Doubt]:
    """Yields what is doubtful about an answer in words, whatever was asked."""
    if is_evasive(text):
        yield Doubt.EVASIVE_ANSWER
    if _is_looped(text):
        yield Doubt.REPEATED_TEXT


def is_evasive(text: str) -> bool:
    """Tells whether *text* begins, in English, with an apology or with what the model cannot do."""
    opening = " ".join(text[:_OPENING].casefold().replace("\u2019", "'").split())
    return _EVASION.match(opening) is not None


def is_empty(value: object) -> bool:
    """Tells whether nothing in a JSON value says anything: every text is empty, and all else null."""
    if isinstance(value, dict):
        return all(map(is_empty, value.values()))
    if isinstance(value, list):
        return all(map(is_empty, value))
    return value is None or (isinstance(value, str) and not value.strip())


def _is_looped(text: str) -> bool:
    """Tells whether most of the 4-grams of words in *text* are there more than once."""
    said = words(text)
    grams = [tuple(said[start : start + _GRAM]) for start in range(len(said) - _GRAM + 1)]
    return len(grams) >= _FEWEST_GRAMS and 1 - len(set(grams)) / len(grams) > _MOST_REPEATED
