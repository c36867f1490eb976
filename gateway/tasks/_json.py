"""Finds JSON in what a model wrote: anywhere in the text, and the whole parts of what is cut off or broken."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_MARKS = re.compile(r'["\\{}\[\]]')
_CLOSES = {"}": "{", "]": "["}
# How deep inside what cannot be read whole parts are looked for: answers nest three deep, and every level more costs
# another reading of a broken answer.
_DEEPEST = 8
_TRAILING_COMMA = re.compile(r",(?=\s*[}\]])")


def values(text: str) -> Iterator[tuple[object, bool]]:
    """Yields the JSON objects and arrays in *text*, the outermost that can be read, in order.

    Each comes with whether it stands alone, not inside a larger one that is cut off or broken. Trailing commas and,
    where there are no double quotes, single quotes are forgiven.
    """
    after = 0
    for start, stop, alone in sorted(_spans(text), key=lambda span: (span[0], -span[1])):
        if start < after:
            continue
        try:
            value = _load(text[start:stop])
        except (ValueError, RecursionError):
            continue
        after = stop
        yield value, alone


def _spans(text: str) -> Iterator[tuple[int, int, bool]]:
    """Yields from where to where each balanced pair of brackets goes, and whether it is inside no other bracket."""
    opened: list[tuple[str, int]] = []
    quoted = False
    skip = -1
    for match in _MARKS.finditer(text):
        mark, position = match[0], match.start()
        if position == skip:
            continue
        if mark == "\\":
            skip = position + 1 if quoted else -1
        elif mark == '"':
            # Quotation marks in the prose around an answer open no string.
            quoted = bool(opened) and not quoted
        elif quoted:
            continue
        elif mark in "{[":
            opened.append((mark, position))
        elif any(mark_opened == _CLOSES[mark] for mark_opened, _ in opened[-_DEEPEST:]):
            while (top := opened.pop())[0] != _CLOSES[mark]:
                pass
            if len(opened) < _DEEPEST:
                yield top[1], position + 1, not opened


def _load(span: str) -> object:
    try:
        return json.loads(span, strict=False)
    except ValueError:
        repaired = _TRAILING_COMMA.sub("", span)
        if '"' not in span:
            repaired = repaired.replace("'", '"')
        return json.loads(repaired, strict=False)
