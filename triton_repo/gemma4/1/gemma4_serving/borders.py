"""Finds markers in text that comes in pieces, where a marker may be cut by the border between two of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def cut_marker(text: str, markers: Iterable[str]) -> int:
    """Gives the length of the longest end of *text* that may be the beginning of one of *markers*, whole ones aside."""
    return max(
        (
            length
            for marker in markers
            for length in range(1, min(len(marker) - 1, len(text)) + 1)
            if text.endswith(marker[:length])
        ),
        default=0,
    )
