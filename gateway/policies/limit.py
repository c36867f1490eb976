"""Bounds how many calls a model works on at once, and how many wait for it.

A call waits only as long as it could still be answered. One that could not, by what is known of the queue and of the
model, is told so at once, so that the next model, or another replica, has all of the time.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway import tracing
from gateway.backlog import Backlog
from gateway.domain import Urgency
from gateway.errors import DeadlineExceeded, GatewayError, Overloaded, UpstreamRateLimited
from gateway.policies import pass_by

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from gateway.concurrency import Concurrency
    from gateway.domain import Answer, Ask, Clock
    from gateway.latency import Latency
    from gateway.metrics import Metrics
    from gateway.policies import Model

# Seconds to come back after, while nothing is known of the model.
_RETRY_AFTER_S = 1.0
# Of the last call in how long a place is held; the calls before have the rest.
_NEWEST = 0.1
# Under overload the queue is as long as it may be. Were that as long as a call can just wait, half of those in it would
# wait in vain, for calls take now longer and now shorter.
_MARGIN = 1.5
# Those shed come back after what they would have waited, and up to half as long again.
_SPREAD = 1.5
_PLACE = ""
_FULL = "is busy and its queue is full"
_STANDS = "is busy, and its queue is as long as it may be while more calls come than it answers"
_TOO_LONG = "is busy, and its queue too long for the time that is left"
_LATE = "was busy until the time was up"
_PAUSED = "failed too often while the call waited for it"
_TAKEN = "is busy, and a call that somebody waits for took the place in its queue"


@dataclass(slots=True, eq=False)
class _Waiter:
    """A call in the queue, the last moment at which it could still be answered, and what its turn brings.

    That is `_PLACE`, or why there is none.
    """

    ask: Ask
    until: float
    turn: asyncio.Future[str]


class Limit:
    """A bulkhead with a bounded queue: interactive calls before bulk ones, first come first served among each.

    The whole queue is for bursts, and for bulk calls. Where interactive calls have waited without a break for a while,
    only half as many of them may wait as are asked at once: then they take about half as long again as without load.
    More may where none would wait for long.
    """

    def __init__(  # noqa: PLR0913  what it bounds and by what, each named at the call
        self,
        inner: Model,
        *,
        name: str,
        concurrency: Concurrency,
        max_queue: int,
        latency: Latency,
        metrics: Metrics,
        clock: Clock,
        random: Random,
        is_paused: Callable[[], bool] = lambda: False,
    ) -> None:
        """As many calls are asked at once as *concurrency* says, and at most *max_queue* wait.

        *latency* knows how long an answer takes; *random* spreads the times at which those shed come back. When
        *is_paused*, the model is not asked by those who waited, unless they are a last resort.
        """
        self._is_paused = is_paused
        self._inner = inner
        self._name = name
        self._concurrency = concurrency
        self._max_queue = max_queue
        self._latency = latency
        self._metrics = metrics
        self._clock = clock
        self._random = random
        self._inflight = 0
        self._held_s: float | None = None
        # By urgency, the first to go first.
        self._queues: tuple[OrderedDict[_Waiter, None], ...] = tuple(OrderedDict() for _ in Urgency)
        self._interactive = Backlog(clock)
        self._limit = concurrency.limit
        metrics.model_limit(name, self._limit)
        metrics.model_queue(name, 0)

    async def answer(self, ask: Ask) -> Answer:
        """Asks the inner model when a place is free, or raises `Overloaded`."""
        if self._inflight < self._limit:
            self._inflight += 1
        else:
            with tracing.span("queue"):
                await self._queue(ask)
        inflight, started = self._inflight, self._clock()
        try:
            answer = await self._inner.answer(ask)
        except DeadlineExceeded:
            # It would have taken longer; how much, only one that was given time enough tells.
            took_s = self._clock() - started
            if took_s > (self._latency.expected_s(ask.query.rpc, self._name) or 0.0):
                self._took(ask, took_s, inflight)
            raise
        except UpstreamRateLimited:
            self._concurrency.overloaded()
            raise
        else:
            self._took(ask, self._clock() - started, inflight)
            return answer
        finally:
            self._leave()

    async def ready(self) -> bool:
        """Tells whether the inner model is ready."""
        return await self._inner.ready()

    async def _queue(self, ask: Ask) -> None:
        now, urgency = self._clock(), ask.options.urgency
        wait_s = self._expected_wait_s(urgency)
        until = ask.deadline - (self._latency.expected_s(ask.query.rpc, self._name) or 0.0)
        if now + _MARGIN * wait_s > until:
            raise self._shed(ask, _TOO_LONG)
        is_closed = self._interactive.is_closed(beyond=self._limit / 2, wait_s=wait_s)
        if is_closed and urgency is Urgency.INTERACTIVE:
            raise self._shed(ask, _STANDS)
        if sum(map(len, self._queues)) >= self._max_queue and not self._take_from_bulk(urgency):
            raise self._shed(ask, _FULL)
        queue, waiter = self._queues[urgency], _Waiter(ask, until, asyncio.get_running_loop().create_future())
        queue[waiter] = None
        self._count_waiting()
        why = _LATE
        try:
            async with asyncio.timeout(until - now):
                why = await waiter.turn
        except (TimeoutError, asyncio.CancelledError) as exc:
            # Its turn may have come in the same moment.
            if waiter.turn.done() and not waiter.turn.cancelled() and waiter.turn.result() == _PLACE:
                self._leave()
            if not isinstance(exc, TimeoutError):
                raise
        finally:
            queue.pop(waiter, None)
            self._count_waiting()
            ask.trace.queue_s += self._clock() - now
        if why != _PLACE:
            raise self._shed(ask, why)

    def _leave(self) -> None:
        self._inflight -= 1
        limit = self._concurrency.limit
        if limit != self._limit:
            self._limit = limit
            self._metrics.model_limit(self._name, limit)
        while self._inflight < self._limit and (waiter := self._first()):
            # One that was given up is still here until its caller's turn on the loop.
            if waiter.turn.done():
                continue
            why = _PLACE
            if self._clock() > waiter.until:
                why = _LATE
            elif self._is_paused() and not waiter.ask.last_resort:
                why = _PAUSED
            self._inflight += why == _PLACE
            waiter.turn.set_result(why)

    def _first(self) -> _Waiter | None:
        return next((queue.popitem(last=False)[0] for queue in self._queues if queue), None)

    def _take_from_bulk(self, urgency: Urgency) -> bool:
        bulk = self._queues[Urgency.BULK]
        if urgency is Urgency.BULK or not bulk:
            return False
        newest, _ = bulk.popitem()
        if not newest.turn.done():
            newest.turn.set_result(_TAKEN)
        return True

    def _expected_wait_s(self, urgency: Urgency) -> float:
        """Gives the seconds until a call that comes now has a place; 0 while nothing is known."""
        ahead = sum(len(queue) for queue in self._queues[: urgency + 1])
        return (ahead + 1) * (self._held_s or 0.0) / self._limit

    def _took(self, ask: Ask, seconds: float, inflight: int) -> None:
        self._held_s = seconds if self._held_s is None else self._held_s + _NEWEST * (seconds - self._held_s)
        self._concurrency.took(ask.query.rpc, seconds, inflight)

    def _count_waiting(self) -> None:
        self._interactive.hold(len(self._queues[Urgency.INTERACTIVE]))
        self._metrics.model_queue(self._name, sum(map(len, self._queues)))

    def _shed(self, ask: Ask, why: str) -> GatewayError:
        wait_s = self._expected_wait_s(ask.options.urgency) or _RETRY_AFTER_S
        exc = Overloaded(f"{self._name} {why}", retry_after_s=wait_s * self._random.uniform(1.0, _SPREAD))
        pass_by(ask, self._name, exc.reason, self._metrics)
        return exc
