"""Hands a caller text as a model writes it, at the caller's pace, without holding up the model for it."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

from gateway.errors import GatewayError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator

    from gateway.domain import Clock, Trace

# Characters that may wait for a caller before the model has to: more than all but the longest answers have, so that a
# slow reader keeps neither a model's place busy nor its price in doubt.
_MOST_WAITING = 65_536


class Deltas:
    """Takes text and hands it over, one message at a time; what comes meanwhile goes together as the next one."""

    def __init__(self, response: type[Any], emit: Callable[[Any], Awaitable[None]], trace: Trace, clock: Clock) -> None:
        """*emit* takes messages of type *response*, each with a `delta`; *trace* learns how long it was waited for."""
        self._response = response
        self._emit = emit
        self._trace = trace
        self._clock = clock
        self._waiting: list[str] = []
        self._length = 0
        self._handing: asyncio.Task[None] | None = None

    @property
    def committed(self) -> bool:
        """Whether the caller was handed anything."""
        return self._trace.committed

    async def write(self, text: str) -> None:
        """Takes *text*, and waits for the caller only when much waits for it already; raises what `emit` raised."""
        self._trace.committed = True
        self._waiting.append(text)
        self._length += len(text)
        if self._handing is None or self._handing.done():
            if self._handing is not None:
                self._handing.result()
            self._handing = asyncio.create_task(self._hand_over())
        if self._length >= _MOST_WAITING:
            await self.flush()

    async def flush(self) -> None:
        """Waits until the caller was handed all of it."""
        if self._handing is not None:
            with self._timed():
                await self._handing

    def stop(self) -> None:
        """Hands over nothing more."""
        if self._handing is not None and not self._handing.cancel() and not self._handing.cancelled():
            # Whoever asked for the text has gone; how, the call itself tells.
            self._handing.exception()

    async def _hand_over(self) -> None:
        while self._waiting:
            text = "".join(self._waiting)
            self._waiting.clear()
            self._length = 0
            await self._emit(self._response(delta=text))

    @contextmanager
    def _timed(self) -> Iterator[None]:
        started = self._clock()
        try:
            yield
        finally:
            self._trace.reader_s += self._clock() - started


@asynccontextmanager
async def deltas(
    response: type[Any], emit: Callable[[Any], Awaitable[None]], trace: Trace, clock: Clock
) -> AsyncGenerator[Deltas]:
    """Gives what takes the text of one call; when left, the caller has all of it, also where the model failed."""
    sink = Deltas(response, emit, trace, clock)
    try:
        try:
            yield sink
        except GatewayError:
            await sink.flush()
            raise
        await sink.flush()
    finally:
        sink.stop()
