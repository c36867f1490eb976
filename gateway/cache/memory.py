"""A store in the memory of one process."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.cache import Claim
    from gateway.domain import Clock

# What CPython keeps around one answer: two bytes objects, a tuple, a float, and its entry in the OrderedDict.
_AROUND_BYTES = 400


class MemoryStore:
    """Holds so many bytes of answers; those not used for longest go first."""

    def __init__(self, *, ttl_s: float, max_bytes: int, clock: Clock) -> None:
        """Keeps an answer for *ttl_s* seconds of *clock*, and *max_bytes* in all, what is around them included."""
        self._ttl_s = ttl_s
        self._max_bytes = max_bytes
        self._clock = clock
        self._kept: OrderedDict[bytes, tuple[float, bytes]] = OrderedDict()
        self._bytes = 0

    async def get(self, key: bytes) -> bytes | None:
        """See `Store`."""
        if key not in self._kept:
            return None
        expires_at, value = self._kept[key]
        if expires_at <= self._clock():
            self._drop(key)
            return None
        self._kept.move_to_end(key)
        return value

    async def get_or_claim(self, claim: Claim) -> bytes | None:
        """See `Store`; nobody else asks, so nothing is claimed."""
        return await self.get(claim.key)

    async def put(self, key: bytes, value: bytes, claim: Claim | None = None) -> None:
        """See `Store`; what is larger than the store is not kept."""
        if key in self._kept:
            self._drop(key)
        self._kept[key] = (self._clock() + self._ttl_s, value)
        self._bytes += _size(key, value)
        while self._bytes > self._max_bytes:
            self._drop(next(iter(self._kept)))

    async def release(self, claim: Claim) -> None:
        """See `Store`."""

    async def aclose(self) -> None:
        """See `Store`."""
        self._kept.clear()
        self._bytes = 0

    def _drop(self, key: bytes) -> None:
        _, value = self._kept.pop(key)
        self._bytes -= _size(key, value)


def _size(key: bytes, value: bytes) -> int:
    return len(key) + len(value) + _AROUND_BYTES
