"""The questions that can be answered without understanding them: a few closed families, in English."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, TypeAlias

from cpu_vision.coco import class_of
from cpu_vision.outcomes import UnsupportedError


@dataclass(frozen=True)
class HowMany:
    """How many objects of a COCO class there are."""

    name: str


@dataclass(frozen=True)
class IsThere:
    """Whether there is an object of a COCO class."""

    name: str


@dataclass(frozen=True)
class IsThereText:
    """Whether there is any text."""


@dataclass(frozen=True)
class WhatDoesItSay:
    """What the text is."""


@dataclass(frozen=True)
class DoesItContain:
    """Whether the text contains these words."""

    words: str


@dataclass(frozen=True)
class WhatIsIt:
    """What the picture shows."""


@dataclass(frozen=True)
class WhatSize:
    """How large the picture is."""

    side: Literal["width", "height", "both"]


Question: TypeAlias = HowMany | IsThere | IsThereText | WhatDoesItSay | DoesItContain | WhatIsIt | WhatSize

_IMAGE = "(?:the|this) (?:image|picture|photo|photograph|scene|page|document)"
_SCENE = rf"(?: (?:here|(?:visible |shown |written )?(?:in|on) {_IMAGE}))?"
# Straight, curly, angle and low quotation marks.
_MARKS = "\"'\u201c\u201d\u2018\u2019\u00ab\u00bb\u201e"
_QUOTED = f"[{_MARKS}](.+)[{_MARKS}]"


def _family(*forms: str) -> re.Pattern[str]:
    return re.compile("|".join(forms), re.IGNORECASE)


_CONTAINS = _family(
    rf"does (?:it|{_IMAGE}|the text) (?:contain|say|read|include|mention)(?: the)?(?: words?| text| phrase)? {_QUOTED}",
    rf"(?:is|are) (?:there )?(?:the )?(?:words?|text|phrase) {_QUOTED}(?: there)?{_SCENE}",
)
_SAYS = _family(
    rf"what does (?:it|this|the text|{_IMAGE}) say",
    rf"what(?: is|'s) (?:the|written as) text{_SCENE}",
    rf"what(?: is|'s) written{_SCENE}",
    rf"what text (?:is there|is|do you see|can you see){_SCENE}",
    rf"(?:please )?(?:read|transcribe) (?:all )?(?:the )?text{_SCENE}",
)
_WHAT = _family(
    r"what(?: is|'s) (?:this|it|that)",
    rf"what(?: is|'s) (?:shown |visible )?(?:here|in {_IMAGE})",
    rf"what (?:do|can) you see{_SCENE}",
    rf"what does {_IMAGE} (?:show|depict|contain)",
    rf"what(?: is|'s) {_IMAGE} of",
)
_SIZE = _family(
    rf"how (wide|high|tall|big|large) is {_IMAGE}",
    rf"how many pixels (wide|high|tall) is {_IMAGE}",
    rf"what(?: is|'s| are) the (width|height|size|resolution|dimensions) of {_IMAGE}",
)
_HOW_MANY = _family(
    rf"how many (.+?)"
    rf"(?: (?:are|is)(?: there| visible| shown)?| (?:do|can) you (?:see|count|find))?{_SCENE}",
)
_IS_THERE = _family(
    rf"(?:is|are) there (?:(?:a|an|any|some) )?(.+?){_SCENE}",
    rf"(?:do|can) you see (?:a|an|any|some) (.+?){_SCENE}",
    rf"does {_IMAGE} (?:show|contain) (?:a|an|any|some) (.+?)",
)
_SIDES: dict[str, Literal["width", "height"]] = {
    "wide": "width",
    "width": "width",
    "high": "height",
    "tall": "height",
    "height": "height",
}
_TEXT = frozenset({"text", "writing", "words"})
_ABLE = (
    "It answers in English: how many of a COCO class there are, whether there is one, what the text says, whether the "
    'text contains "words in quotes", what the picture shows, and how large it is.'
)
_MAX_NAMED = 60


def understand(question: str) -> Question:
    """Finds the family of a question, or raises `UnsupportedError`, which names an object that is no COCO class."""
    asked = " ".join(question.replace("\u2019", "'").split()).rstrip("?!. ")
    if match := _CONTAINS.fullmatch(asked):
        return DoesItContain(_group(match))
    if _SAYS.fullmatch(asked):
        return WhatDoesItSay()
    if _WHAT.fullmatch(asked):
        return WhatIsIt()
    if match := _SIZE.fullmatch(asked):
        return WhatSize(_SIDES.get(_group(match).lower(), "both"))
    if match := _HOW_MANY.fullmatch(asked):
        return HowMany(_class(_group(match)))
    if match := _IS_THERE.fullmatch(asked):
        label = _group(match)
        return IsThereText() if label.lower() in _TEXT else IsThere(_class(label))
    raise UnsupportedError("question", f"The embedded model cannot answer this question. {_ABLE}")


def _group(match: re.Match[str]) -> str:
    return next(group for group in match.groups() if group is not None)


def _class(label: str) -> str:
    if name := class_of(label):
        return name
    named = label if len(label) <= _MAX_NAMED else f"{label[:_MAX_NAMED]}…"
    raise UnsupportedError(
        "labels", f'The embedded model cannot look for "{named}": it knows only the 80 object classes of COCO.'
    )
