"""A store that no call waits for longer than a moment."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import structlog

from gateway.cache import LEASE_S, Claimed, StoreFailed
from gateway.cache.turn import Turn

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from gateway.cache import Claim, Store
    from gateway.domain import Clock

_T = TypeVar("_T")
_GET, _PUT = "get", "put"
# So often is a claim renewed, seconds: it outlives a few times that fail, or come late.
_RENEW_S = LEASE_S / 5
_log = structlog.get_logger()


class WriteBehind:
    """Reads with little patience and writes in the background; a store that is down is let alone for a while.

    Each read and write is a task that runs to its end whatever becomes of the call: with redis-py 8.1 a cancel that
    comes together with the answer is swallowed, and who was to be cancelled goes on.
    """

    def __init__(self, inner: Store, *, clock: Clock, patience_s: float, pause_s: float = 1.0) -> None:
        """*inner* is closed with this one. A read that takes longer than *patience_s* seconds fails.

        Then none is made for *pause_s* seconds of *clock*, and one every so often until one succeeds.
        """
        self._inner = inner
        self._clock = clock
        self._patience_s = patience_s
        self._pause_s = pause_s
        self._paused_until = clock()
        self._failing: set[str] = set()
        self._unwritten: dict[bytes, tuple[bytes, Claim | None]] = {}
        self._running: set[asyncio.Task[Any]] = set()

    async def get(self, key: bytes) -> bytes | None:
        """Gives what is kept, or about to be, under *key*, or None; raises `StoreFailed` where that takes too long."""
        if key in self._unwritten:
            return self._unwritten[key][0]
        return await self._read(partial(self._inner.get, key))

    async def get_or_claim(self, claim: Claim) -> bytes | Turn | None:
        """Gives the same, or else the turn to ask, which is for the caller to end; None while it is another process's.

        Raises `StoreFailed` as `get` does.
        """
        if claim.key in self._unwritten:
            return self._unwritten[claim.key][0]
        turn = Turn(claim)
        try:
            found = await self._read(partial(self._claim, turn, claim))
        except BaseException:
            # The claim may yet be granted.
            turn.end()
            raise
        if found is Claimed.MINE:
            return turn
        if found is Claimed.ANOTHERS:
            return None
        return Turn() if found is None else found

    def put(self, key: bytes, value: bytes, *, lost: Callable[[], None], turn: Turn | None = None) -> None:
        """Keeps *value* under *key* from now on, as far as this process is asked; calls *lost* when that fails.

        *turn* ends once other processes can read it too.
        """
        is_under_way = key in self._unwritten
        self._unwritten[key] = (value, turn.hand_over() if turn else None)
        if not is_under_way:
            self._start(self._write(key, lost))

    async def aclose(self) -> None:
        """Waits for what is still being read and written, then closes the inner store."""
        while self._running:
            await asyncio.wait(self._running)
        await self._inner.aclose()

    async def _read(self, work: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
        now = self._clock()
        if now < self._paused_until:
            raise StoreFailed("the store of the cache is down")
        if _GET in self._failing:
            # One call finds out; the others do not wait with it.
            self._paused_until = now + self._pause_s
        try:
            value = await self._within_patience(self._start(work()))
        except StoreFailed as exc:
            self._paused_until = self._clock() + self._pause_s
            self._failed(_GET, exc)
            raise
        self._paused_until = now
        self._failing.discard(_GET)
        return value

    async def _within_patience(self, reading: asyncio.Task[_T]) -> _T:
        # Waited for, not awaited: what ends the wait leaves the task alone.
        done, _ = await asyncio.wait({reading}, timeout=self._patience_s)
        if not done:
            raise StoreFailed("the store of the cache is slow") from TimeoutError()
        return reading.result()

    async def _claim(self, turn: Turn, claim: Claim) -> bytes | Claimed | None:
        found = await self._inner.get_or_claim(claim)
        if found is Claimed.MINE:
            self._start(self._hold(turn))
        return found

    async def _hold(self, turn: Turn) -> None:
        """Renews the claim of *turn* until it is over, and then lets go of it."""
        while not await turn.is_over(within_s=_RENEW_S):
            await self._tell(self._inner.get_or_claim, turn.claim)
        await self._tell(self._inner.release, turn.claim)

    async def _tell(self, operation: Callable[[Claim], Awaitable[object]], claim: Claim | None) -> None:
        # A claim that is not told of lapses by itself.
        if claim and self._clock() >= self._paused_until:
            with suppress(StoreFailed):
                await operation(claim)

    async def _write(self, key: bytes, lost: Callable[[], None]) -> None:
        written = None
        try:
            # One after another, so that the value that was put last is the one that stays.
            while (value := self._unwritten[key]) is not written and self._clock() >= self._paused_until:
                await self._inner.put(key, *value)
                written = value
                self._failing.discard(_PUT)
        except StoreFailed as exc:
            self._failed(_PUT, exc)
        finally:
            if self._unwritten.pop(key) is not written:
                lost()

    def _failed(self, operation: str, exc: StoreFailed) -> None:
        # Once, until it works again.
        if operation not in self._failing:
            self._failing.add(operation)
            _log.warning("cache_store_failed", operation=operation, cause=type(exc.__cause__).__name__)

    def _start(self, work: Coroutine[Any, Any, _T]) -> asyncio.Task[_T]:
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        # Looked at, else asyncio complains of a read that failed after nobody waited for it any more.
        if not task.cancelled():
            task.exception()
