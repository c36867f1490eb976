"""Bounds how many calls a model works on at once, and how many wait for it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from gateway.errors import GatewayError, Overloaded
from gateway.policies import pass_by

if TYPE_CHECKING:
    from gateway.domain import Answer, Ask, Clock
    from gateway.metrics import Metrics
    from gateway.policies import Model

_RETRY_AFTER_S = 1.0


class Limit:
    """A bulkhead with a bounded queue, first come first served; beyond it calls are shed at once."""

    def __init__(
        self, inner: Model, *, name: str, max_inflight: int, max_queue: int, metrics: Metrics, clock: Clock
    ) -> None:
        """At most *max_inflight* calls are asked at once and at most *max_queue* wait."""
        self._inner = inner
        self._name = name
        self._places = asyncio.Semaphore(max_inflight)
        self._max_queue = max_queue
        self._waiting = 0
        self._metrics = metrics
        self._clock = clock

    async def answer(self, ask: Ask) -> Answer:
        """Asks the inner model when a place is free, or raises `Overloaded`."""
        await self._enter(ask)
        try:
            return await self._inner.answer(ask)
        finally:
            self._places.release()

    async def ready(self) -> bool:
        """Tells whether the inner model is ready."""
        return await self._inner.ready()

    async def _enter(self, ask: Ask) -> None:
        if not self._places.locked():
            await self._places.acquire()
            return
        if self._waiting >= self._max_queue:
            raise self._shed(
                ask, Overloaded(f"{self._name} is busy and its queue is full", retry_after_s=_RETRY_AFTER_S)
            )
        started = self._clock()
        self._waiting += 1
        try:
            async with asyncio.timeout(ask.deadline - started):
                await self._places.acquire()
        except TimeoutError:
            busy = Overloaded(f"{self._name} was busy until the time was up", retry_after_s=_RETRY_AFTER_S)
            raise self._shed(ask, busy) from None
        finally:
            self._waiting -= 1
            ask.trace.queue_s += self._clock() - started

    def _shed(self, ask: Ask, exc: GatewayError) -> GatewayError:
        pass_by(ask, self._name, exc.reason, self._metrics)
        return exc
