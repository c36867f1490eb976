"""Whose turn it is to ask, among processes that share a store."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.cache import Claim


class Turn:
    """The right to ask, which other processes leave to its holder until it is ended.

    Only as far as there is a claim in the store: without one, others may ask too.
    """

    def __init__(self, claim: Claim | None = None) -> None:
        """*claim* is what the store is to let go of in the end."""
        self.claim = claim
        self._over = asyncio.Event()

    def end(self) -> None:
        """Leaves it to others to ask; may be called again."""
        self._over.set()

    def hand_over(self) -> Claim | None:
        """Ends it, and leaves it to whoever calls this to have the claim let go of."""
        claim, self.claim = self.claim, None
        self.end()
        return claim

    async def is_over(self, *, within_s: float) -> bool:
        """Tells whether it is ended, as soon as it is or after *within_s* seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._over.wait()
        return self._over.is_set()
