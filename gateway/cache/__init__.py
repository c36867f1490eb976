"""Answers that are kept for equal calls, in a store that forgets them after a while."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, Protocol

# Seconds for which a claim stands that nobody renews. So long are others held up by a process that was killed; one that
# is only short of processor time gets to renew it.
LEASE_S: Final = 5.0


class StoreFailed(Exception):
    """The store cannot be reached, or cannot read or write. Its own exception is the cause, and for the log alone."""


@dataclass(frozen=True, slots=True)
class Claim:
    """Says that *holder*, a name used once, asks for what is to be kept under *key*; there is one a *kind* of call."""

    key: bytes
    kind: str
    holder: str


class Claimed(Enum):
    """Whose the claim is that stands."""

    MINE = auto()
    ANOTHERS = auto()


class Store(Protocol):
    """Where answers are kept. Every method raises `StoreFailed` when the store is down."""

    async def get(self, key: bytes) -> bytes | None:
        """Gives what is kept under *key*; None where there is nothing, or nothing any more."""
        ...

    async def get_or_claim(self, claim: Claim) -> bytes | Claimed | None:
        """Gives what is kept under the key of *claim*, else puts the claim there unless another one stands.

        One that stands already, of the same holder, is renewed for `LEASE_S`. None where nothing can be claimed: in a
        store of one process alone, or one that can be read and not written.
        """
        ...

    async def put(self, key: bytes, value: bytes, claim: Claim | None = None) -> None:
        """Keeps *value* under *key* in place of what is there, for the time and in the room that the store has.

        Lets go of *claim* with it, so that nobody finds neither.
        """
        ...

    async def release(self, claim: Claim) -> None:
        """Lets go of *claim*, if it still stands."""
        ...

    async def aclose(self) -> None:
        """Lets go of what the store has open."""
        ...
