"""Answers that are kept for equal calls, in a store that forgets them after a while."""

from __future__ import annotations

from typing import Protocol


class StoreFailed(Exception):
    """The store cannot be reached, or cannot read or write. Its own exception is the cause, and for the log alone."""


class Store(Protocol):
    """Where answers are kept. Every method raises `StoreFailed` when the store is down."""

    async def get(self, key: bytes) -> bytes | None:
        """Gives what is kept under *key*; None where there is nothing, or nothing any more."""
        ...

    async def put(self, key: bytes, value: bytes) -> None:
        """Keeps *value* under *key* in place of what is there, for the time and in the room that the store has."""
        ...

    async def aclose(self) -> None:
        """Lets go of what the store has open."""
        ...
