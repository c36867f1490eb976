"""Finds the caller's own label in the words that a model used for it."""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_SPACES = re.compile(r"[\s_-]+")
# Words as short as "bus" or "gas" are no plurals of shorter ones.
_SHORTEST_PLURAL = 4


class ClosedSet:
    """The labels that a caller allows: finds them in any case, spacing, and English number."""

    def __init__(self, labels: Sequence[str]) -> None:
        """Takes *labels* as the caller wrote them."""
        self._labels = frozenset(labels)
        self._by_key: dict[str, str] = {}
        for label in labels:
            self._by_key.setdefault(_key(label), label)
        # A form that two labels share names neither.
        self._by_form: dict[str, str | None] = {}
        for label in labels:
            for form in _forms(_key(label)):
                self._by_form[form] = None if self._by_form.get(form, label) != label else label

    def find(self, words: str) -> str | None:
        """Gives the label that *words* mean, exactly as the caller wrote it; None if they mean no single one."""
        if words in self._labels:
            return words
        key = _key(words)
        if key in self._by_key:
            return self._by_key[key]
        meant = {label for form in _forms(key) if (label := self._by_form.get(form)) is not None}
        return meant.pop() if len(meant) == 1 else None


def _key(words: str) -> str:
    return _SPACES.sub("", unicodedata.normalize("NFKC", words).casefold())


def _forms(key: str) -> Iterator[str]:
    """Yields *key* and whatever it could be the plural of."""
    yield key
    if len(key) < _SHORTEST_PLURAL or not key.endswith("s"):
        return
    yield key[:-1]
    if key.endswith("ies"):
        yield f"{key[:-3]}y"
    elif key.endswith("es"):
        yield key[:-2]
