"""A store whose reservations are not lost when the call that made them is cancelled."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from gateway.budget import Exhausted, StoreFailed, TooMany

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping

    from gateway.budget import Balance, Claim, Reservation, Store, Window

_T = TypeVar("_T")


class Shielded:
    """Lets every change of the inner store run to its end, and takes back what a cancelled call no longer needs."""

    def __init__(self, inner: Store) -> None:
        """*inner* is closed with this one."""
        self._inner = inner
        self._running: set[asyncio.Task[Any]] = set()

    async def reserve(self, claim: Claim) -> Reservation:
        """See `Store`; a cancelled call's reservation is settled for nothing."""
        reserving = self._start(self._inner.reserve(claim))
        try:
            return await asyncio.shield(reserving)
        except asyncio.CancelledError:
            self._start(self._unreserve(reserving))
            raise

    async def settle(self, reservation: Reservation, actual: int) -> None:
        """See `Store`; goes on when the call is cancelled."""
        await asyncio.shield(self._start(self._inner.settle(reservation, actual)))

    async def balance(self, principal: str, now: float) -> Mapping[Window, Balance]:
        """See `Store`."""
        # Seen with redis-py 8.1: a cancel that comes together with the answer is swallowed, and who looks goes on.
        return await asyncio.shield(self._start(self._inner.balance(principal, now)))

    async def enter(self, principal: str, most: int, *, now: float, lease_s: float) -> str:
        """See `Store`; a cancelled call's place is given back."""
        entering = self._start(self._inner.enter(principal, most, now=now, lease_s=lease_s))
        try:
            return await asyncio.shield(entering)
        except asyncio.CancelledError:
            self._start(self._unenter(principal, entering))
            raise

    async def leave(self, principal: str, place: str) -> None:
        """See `Store`; goes on when the call is cancelled."""
        await asyncio.shield(self._start(self._inner.leave(principal, place)))

    async def aclose(self) -> None:
        """Waits for what is still being changed, then closes the inner store."""
        while self._running:
            await asyncio.wait(self._running)
        await self._inner.aclose()

    def _start(self, work: Coroutine[Any, Any, _T]) -> asyncio.Task[_T]:
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        # Looked at, else asyncio complains of failures that a cancelled call no longer awaits.
        if not task.cancelled():
            task.exception()

    async def _unreserve(self, reserving: asyncio.Task[Reservation]) -> None:
        # What cannot be taken back expires.
        with suppress(Exhausted, StoreFailed):
            await self._inner.settle(await reserving, 0)

    async def _unenter(self, principal: str, entering: asyncio.Task[str]) -> None:
        with suppress(TooMany, StoreFailed):
            await self._inner.leave(principal, await entering)
