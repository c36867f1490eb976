"""The identifier that a call keeps from its caller through every log line to its answer."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

if TYPE_CHECKING:
    from collections.abc import Iterable

HEADER = "x-request-id"
_LONGEST = 128


def request_id(metadata: Iterable[tuple[str, str | bytes]] | None) -> str:
    """Gives the caller's `x-request-id` when it is 1 to 128 printable ASCII characters, else a new one."""
    for key, value in metadata or ():
        if key == HEADER and isinstance(value, str) and _usable(value):
            return value
    return uuid4().hex


def _usable(value: str) -> bool:
    return 0 < len(value) <= _LONGEST and value.isascii() and value.isprintable()
