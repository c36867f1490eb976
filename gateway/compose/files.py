"""Tells one content of a file from the next."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


def digests(paths: Iterable[Path]) -> dict[Path, str]:
    """Gives the SHA-256 of each file in hex; empty for one that cannot be read, of which who opens it says so."""
    return {path: _digest(path) for path in paths}


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""
