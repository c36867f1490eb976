"""Checks of request fields that several tasks have."""

from __future__ import annotations

import re
from itertools import islice
from typing import TYPE_CHECKING

from gateway.errors import Violation

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

LABEL_CHARACTERS = 100
_TAG_CHARACTERS = 35
# Well-formed tags of RFC 5646 section 2.1, without the irregular ones that it keeps for old times' sake.
_TAG = re.compile(
    r"""
    (?: [a-z]{2,3}(?:-[a-z]{3}){0,3} | [a-z]{4,8} )    # language, with extended language subtags
    (?: -[a-z]{4} )?                                   # script
    (?: -(?:[a-z]{2}|[0-9]{3}) )?                      # region
    (?: -(?:[a-z0-9]{5,8}|[0-9][a-z0-9]{3}) )*         # variants
    (?: -[a-wy-z0-9](?:-[a-z0-9]{2,8})+ )*             # extensions
    (?: -x(?:-[a-z0-9]{1,8})+ )?                       # private use
    | x(?:-[a-z0-9]{1,8})+
    """,
    re.VERBOSE | re.IGNORECASE | re.ASCII,
)


def language(field: str, tag: str) -> Iterator[Violation]:
    """Yields what is wrong with *tag*, which is set, as a BCP 47 language tag."""
    if len(tag) > _TAG_CHARACTERS:
        yield Violation(field, f"is {len(tag)} characters long; at most {_TAG_CHARACTERS} are allowed")
    elif not _TAG.fullmatch(tag):
        yield Violation(field, "is not a BCP 47 language tag such as `de` or `pt-BR`")


def text(field: str, value: str, most: int) -> Iterator[Violation]:
    """Yields that *value* is longer than *most* characters."""
    if len(value) > most:
        yield Violation(field, f"is {len(value)} characters long; at most {most} are allowed")


def labels(values: Sequence[str], most: int, *, distinct: bool) -> Iterator[Violation]:
    """Yields what is wrong with the field `labels`: too many, empty or too long ones, repeated ones if *distinct*.

    Past *most*, labels are counted but not looked at.
    """
    if len(values) > most:
        yield Violation("labels", f"has {len(values)} labels; at most {most} are allowed")
    seen: dict[str, int] = {}
    for index, label in enumerate(islice(values, most)):
        field = f"labels[{index}]"
        if not label.strip():
            yield Violation(field, "is empty")
        yield from text(field, label, LABEL_CHARACTERS)
        if distinct and seen.setdefault(label, index) != index:
            yield Violation(field, f"repeats labels[{seen[label]}]")


def at_most(field: str, value: int, most: int) -> Iterator[Violation]:
    """Yields that the optional count *value*, which is set, is outside [1, *most*]."""
    if not 1 <= value <= most:
        yield Violation(field, f"is {value}; the range is [1, {most}]")
