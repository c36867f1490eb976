"""A store that no call waits for longer than a moment."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

import structlog

from gateway.cache import StoreFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from gateway.cache import Store
    from gateway.domain import Clock

_T = TypeVar("_T")
_GET, _PUT = "get", "put"
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
        self._unwritten: dict[bytes, bytes] = {}
        self._running: set[asyncio.Task[Any]] = set()

    async def get(self, key: bytes) -> bytes | None:
        """Gives what is kept, or about to be, under *key*, or None; raises `StoreFailed` where that takes too long."""
        if key in self._unwritten:
            return self._unwritten[key]
        now = self._clock()
        if now < self._paused_until:
            raise StoreFailed("the store of the cache is down")
        if _GET in self._failing:
            # One call finds out; the others do not wait with it.
            self._paused_until = now + self._pause_s
        try:
            value = await self._read(key)
        except StoreFailed as exc:
            self._paused_until = self._clock() + self._pause_s
            self._failed(_GET, exc)
            raise
        self._paused_until = now
        self._failing.discard(_GET)
        return value

    def put(self, key: bytes, value: bytes, *, lost: Callable[[], None]) -> None:
        """Keeps *value* under *key* from now on, as far as this process is asked; calls *lost* when that fails."""
        is_under_way = key in self._unwritten
        self._unwritten[key] = value
        if not is_under_way:
            self._start(self._write(key, lost))

    async def aclose(self) -> None:
        """Waits for what is still being read and written, then closes the inner store."""
        while self._running:
            await asyncio.wait(self._running)
        await self._inner.aclose()

    async def _read(self, key: bytes) -> bytes | None:
        reading = self._start(self._inner.get(key))
        # Waited for, not awaited: what ends the wait leaves the task alone.
        done, _ = await asyncio.wait({reading}, timeout=self._patience_s)
        if not done:
            raise StoreFailed("the store of the cache is slow") from TimeoutError()
        return reading.result()

    async def _write(self, key: bytes, lost: Callable[[], None]) -> None:
        written = None
        try:
            # One after another, so that the value that was put last is the one that stays.
            while (value := self._unwritten[key]) is not written and self._clock() >= self._paused_until:
                await self._inner.put(key, value)
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
