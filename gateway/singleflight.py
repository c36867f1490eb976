"""Work that equal callers share while it is under way.

Named after Go's `golang.org/x/sync/singleflight`. Unlike there, work that nobody waits for any more is cancelled.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Hashable

_T = TypeVar("_T")

# Tells work whether it is still what newcomers would join.
IsLatest: TypeAlias = "Callable[[], bool]"


class SingleFlight(Generic[_T]):
    """The work under way that can be joined, one a key at most."""

    def __init__(self) -> None:
        """Nothing is under way."""
        self._flights: dict[Hashable, _Flight[_T]] = {}

    def join(
        self, key: Hashable, work: Callable[[IsLatest], Coroutine[Any, Any, _T]], *, anew: bool = False
    ) -> tuple[Coroutine[Any, Any, _T], bool]:
        """Gives what to await, at once, for the work of *key*, and whether it begins with this call.

        With *anew* it always does, and others join it from then on. What is awaited gives what the work gives, or
        raises what it raises, the same object to everybody. Cancelling it lets the work go on, unless nobody else
        waits: then the work is cancelled, and over before this is.
        """
        flight = None if anew else self._flights.get(key)
        # One that is over, or being cancelled since nobody waited, is not for newcomers.
        if flight is not None and flight.waiting and not flight.task.done():
            return flight.wait(), False

        def is_latest() -> bool:
            return self._flights.get(key) is flight

        flight = _Flight(asyncio.create_task(work(is_latest)))
        self._flights[key] = flight
        flight.task.add_done_callback(partial(self._landed, key, flight))
        return flight.wait(), True

    def _landed(self, key: Hashable, flight: _Flight[_T], task: asyncio.Task[_T]) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]
        # Looked at, else asyncio complains of failures that nobody was left to see.
        if not task.cancelled():
            task.exception()


class _Flight(Generic[_T]):
    """One piece of work, and how many wait for it."""

    def __init__(self, task: asyncio.Task[_T]) -> None:
        self.task = task
        self.waiting = 0

    async def wait(self) -> _T:
        self.waiting += 1
        try:
            await asyncio.wait({self.task})
        finally:
            self.waiting -= 1
            if not self.waiting and not self.task.done():
                self.task.cancel()
                await asyncio.wait({self.task})
        try:
            return self.task.result()
        finally:
            # A failure's traceback leads here: a cycle would keep the call's images until the collector runs.
            del self
