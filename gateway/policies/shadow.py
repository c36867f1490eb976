"""Makes some calls to one more model, after their callers have their answers, and compares what it says."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import structlog

from gateway import tracing
from gateway.domain import CacheOutcome, CachePolicy, Trace, Urgency
from gateway.errors import GatewayError

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from gateway.domain import Answer, Ask, Clock, Query
    from gateway.metrics import Metrics
    from gateway.policies import Candidate, Model

# Whose calls they are, in the ledger and to the budgets.
PRINCIPAL = "shadow"
# Calls that cost nothing are not to cost something here.
_NOBODY_ASKED = (CacheOutcome.HIT, CacheOutcome.COALESCED)

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Call:
    """One call to be made: *response* is what its caller got, from the model *given_by*; *span_s* is its time.

    *trace* is the span that its caller's call was in.
    """

    ask: Ask
    response: object
    given_by: str
    span_s: float
    trace: tracing.Span | None


class Shadow:
    """One more model of a route, and the calls that are made to it or wait for that.

    Of the calls that it holds, and so of their images, there are never more than may be made at once and may wait.
    """

    def __init__(  # noqa: PLR0913  what it asks and how much of it, each named at the call
        self,
        candidate: Candidate,
        *,
        share: float,
        max_inflight: int,
        max_queue: int,
        agreement: Callable[[str, object, object, Query], float],
        metrics: Metrics,
        clock: Clock,
        random: Random,
    ) -> None:
        """A *share* in (0, 1] of the answered calls is made to *candidate* too, *max_inflight* at once.

        *agreement* tells for an RPC how far two responses to a query agree, in [0, 1].
        """
        self._candidate = candidate
        self._share = share
        self._max_inflight = max_inflight
        self._max_queue = max_queue
        self._agreement = agreement
        self._metrics = metrics
        self._clock = clock
        self._random = random
        self._waiting: deque[_Call] = deque()
        self._running: set[asyncio.Task[None]] = set()
        self._closed = False

    def behind(self, inner: Model) -> Model:
        """Gives a model that answers as *inner* does, and whose calls this one follows."""
        return _Followed(inner, self, self._clock)

    def follow(self, ask: Ask, answer: Answer, span_s: float) -> None:
        """Makes the call of *ask* again, soon, for *span_s* seconds at most, if it is drawn and there is room."""
        if not self._may_see(ask) or answer.model == self._candidate.name or ask.trace.cache in _NOBODY_ASKED:
            return
        if self._random.random() >= self._share:
            return
        options = replace(
            ask.options,
            # What its caller would pay is no matter; nobody waits for it, and it tells of the model alone.
            max_cost_nano_usd=None,
            urgency=Urgency.BULK,
            cache=CachePolicy.BYPASS,
        )
        again = replace(
            ask, options=options, trace=Trace(), principal=PRINCIPAL, sink=None, last_resort=False, has_next=False
        )
        call = _Call(again, answer.response, answer.model, span_s, tracing.kept())
        if self._closed:
            self._count(call, "dropped")
        elif len(self._running) < self._max_inflight:
            self._start(call)
        elif len(self._waiting) < self._max_queue:
            self._waiting.append(call)
        else:
            self._count(call, "dropped")

    async def aclose(self) -> None:
        """Makes no more calls, and ends those that are being made."""
        self._closed = True
        while self._waiting:
            self._count(self._waiting.popleft(), "dropped")
        running = list(self._running)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    def _may_see(self, ask: Ask) -> bool:
        candidate = self._candidate
        serves = candidate.tasks is None or ask.query.rpc in candidate.tasks
        allowed = (candidate.local or not ask.options.local_only) and ask.rights.may_ask(candidate.name)
        return serves and allowed

    def _start(self, call: _Call) -> None:
        task = asyncio.create_task(self._make(call))
        self._running.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if self._waiting:
            self._start(self._waiting.popleft())

    async def _make(self, call: _Call) -> None:
        ask = replace(call.ask, deadline=self._clock() + call.span_s)
        rpc, name = ask.query.rpc, self._candidate.name
        try:
            # Its task may have been started at the end of another call.
            with tracing.under(call.trace, "shadow"):
                answer = await self._candidate.model.answer(ask)
            # Many boxes take their time to be compared, in which the calls of others go on.
            ratio = await asyncio.to_thread(self._agreement, rpc, call.response, answer.response, ask.query)
        except GatewayError:
            self._count(call, "failed")
        except Exception as exc:  # noqa: BLE001  whatever it is, nobody else would ever hear of it
            _log.error("bug", rpc=rpc, model=name, request_id=ask.request_id, exc_info=exc)
            self._count(call, "failed")
        else:
            self._metrics.agreement(rpc=rpc, model=call.given_by, other=name, ratio=ratio)
            self._count(call, "answered")

    def _count(self, call: _Call, outcome: str) -> None:
        self._metrics.shadowed(rpc=call.ask.query.rpc, model=self._candidate.name, outcome=outcome)


class _Followed:
    """Answers as the model that it wraps does."""

    def __init__(self, inner: Model, shadow: Shadow, clock: Clock) -> None:
        self._inner = inner
        self._shadow = shadow
        self._clock = clock

    async def answer(self, ask: Ask) -> Answer:
        span_s = ask.deadline - self._clock()
        answer = await self._inner.answer(ask)
        self._shadow.follow(ask, answer, span_s)
        return answer

    async def ready(self) -> bool:
        return await self._inner.ready()
