"""Reads what a model answered: plain text, or the elements of a list."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from gateway.errors import UnusableAnswer
from gateway.tasks._json import values
from gateway.tasks._records import clean, string

if TYPE_CHECKING:
    from collections.abc import Sequence

_FENCE = "```"
_OPENING_FENCE = re.compile(r"```[^\n`]*\n?")


def unusable(what: str) -> UnusableAnswer:
    """Makes the error to raise where the answer has no *what*."""
    return UnusableAnswer(f"the model's answer has no usable {what}")


def plain(text: str) -> str:
    """Gives the text of a plain answer: without the one code fence around all of it, and without blank lines around."""
    text = clean(text).replace("\r\n", "\n").strip()
    if text.startswith(_FENCE) and text.endswith(_FENCE) and text.count(_FENCE) == 2:  # noqa: PLR2004  one opens, one closes
        text = _OPENING_FENCE.sub("", text, count=1).removesuffix(_FENCE)
    return text.strip("\n").rstrip()


def unwrapped(text: str, keys: Sequence[str]) -> str:
    """Gives the text under one of *keys* where the answer is a JSON object, else the plain answer; may be empty."""
    written = plain(text)
    if not written.startswith("{"):
        return written
    records = (value for value, _ in values(written) if isinstance(value, dict))
    return next((inner.strip() for record in records if (inner := string(record, keys)) is not None), "")


def elements(text: str, keys: Sequence[str], what: str) -> list[object]:
    """Gives the elements of the list that the answer is, or holds under one of *keys*, or is the only element of.

    An empty list is an answer: there is nothing. Raises `UnusableAnswer`, saying that there is no *what*, where there
    is no list, or only the start of one.
    """
    found: list[object] = []
    empty = False
    for value, alone in values(text):
        items = _items(value, keys)
        found += items
        empty |= alone and not items
    if not found and not empty:
        raise unusable(what)
    return found


def _items(value: object, keys: Sequence[str]) -> list[object]:
    if isinstance(value, dict):
        listed = next((value[key] for key in keys if key in value), value)
        if listed is None:
            return []
        if listed is value or not isinstance(listed, list):
            return [listed]
        value = listed
    items = value if isinstance(value, list) else [value]
    return [inner for item in items for inner in (item if isinstance(item, list) else [item])]
