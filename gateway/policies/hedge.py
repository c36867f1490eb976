"""Asks the next model as well when the first one takes long, and gives whichever answer comes first."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

from grpc import StatusCode

from gateway import tracing
from gateway.domain import Answer, Trace
from gateway.errors import GatewayError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from gateway.domain import Ask, Clock, Options
    from gateway.latency import Latency
    from gateway.metrics import Metrics
    from gateway.policies import Candidate, Model

    _Said: TypeAlias = Answer | GatewayError


class Hedge:
    """Lets the first two models of one call race where the second may be asked; the rest goes on as it would."""

    def __init__(
        self,
        candidates: Sequence[Candidate],
        *,
        in_turn: Callable[[Sequence[Candidate]], Model],
        after_s: float | None,
        latency: Latency,
        metrics: Metrics,
        clock: Clock,
    ) -> None:
        """*in_turn* asks models one after another until one answers. At *after_s* seconds the second one joins.

        None: at the first one's 95th percentile, once *latency* knows it.
        """
        self._candidates = candidates
        self._in_turn = in_turn
        self._after_s = after_s
        self._latency = latency
        self._metrics = metrics
        self._clock = clock

    async def answer(self, ask: Ask) -> Answer:
        """Asks the models in turn, the first two perhaps at once; text that is read as it is written has one writer."""
        candidates = self._candidates
        after_s = self._after_s or self._latency.p95_s(ask.query.rpc, candidates[0].name)
        if len(candidates) > 1 and after_s is not None and ask.sink is None:
            first, second, *later = candidates
            race = _Race(
                first,
                second,
                after_s=after_s,
                learned=self._after_s is None,
                second_until=None if later else ask.deadline,
                latency=self._latency,
                metrics=self._metrics,
                clock=self._clock,
            )
            candidates = [
                replace(first, model=_Turn(first.model, race.answer)),
                replace(second, model=_Turn(second.model, race.answer_second)),
                *later,
            ]
        return await self._in_turn(candidates).answer(ask)

    async def ready(self) -> bool:
        """Tells whether any model is ready."""
        return await self._in_turn(self._candidates).ready()


class _Turn:
    """Stands where one of the two models does among those that are asked in turn."""

    def __init__(self, model: Model, answer: Callable[[Ask], Awaitable[Answer]]) -> None:
        self._model = model
        self._answer = answer

    async def answer(self, ask: Ask) -> Answer:
        return await self._answer(ask)

    async def ready(self) -> bool:
        return await self._model.ready()


class _Race:
    """Two models and one call. When the first one's turn ends, nobody is being asked any more."""

    def __init__(  # noqa: PLR0913  what it knows of its call, each named at it
        self,
        first: Candidate,
        second: Candidate,
        *,
        after_s: float,
        learned: bool,
        second_until: float | None,
        latency: Latency,
        metrics: Metrics,
        clock: Clock,
    ) -> None:
        """*second_until* is the second one's deadline; None: the first one's, which leaves a third one time."""
        self._first = first
        self._second = second
        self._after_s = after_s
        self._learned = learned
        self._second_until = second_until
        self._latency = latency
        self._metrics = metrics
        self._clock = clock
        self._second_had_its_turn = False
        self._second_failed: GatewayError | None = None

    async def answer(self, ask: Ask) -> Answer:
        """Gives the answer that came first, or raises the first model's failure."""
        # Nothing here holds on to what is raised: a cycle would keep the call's images until the collector runs.
        return _usable(await self._first_turn(ask))

    async def answer_second(self, ask: Ask) -> Answer:
        """Asks the second model, unless it was asked and failed; raises what it said then."""
        self._second_had_its_turn = True
        if self._second_failed is None:
            return await self._second.model.answer(ask)
        try:
            raise self._second_failed
        finally:
            self._second_failed = None

    async def _first_turn(self, ask: Ask) -> _Said:
        before, started = replace(ask.trace), self._clock()
        first = asyncio.create_task(_tried(self._first.model, ask))
        try:
            await asyncio.wait({first}, timeout=self._after_s)
            if first.done() or not (as_second := self._as_second(ask)):
                return await first
            asked_after_s = self._clock() - started
            said = await self._both(first, ask, as_second)
        finally:
            await _end(first)
        if isinstance(said, Answer) and said.model == self._second.name:
            if first.cancelled():
                self._learn_of_loss(ask)
            _credit(ask.trace, before, as_second.trace, asked_after_s)
        return said

    async def _both(self, first: asyncio.Task[_Said], ask: Ask, as_second: Ask) -> _Said:
        tracing.event("hedged", model=self._second.name)
        second = asyncio.create_task(_tried(self._second.model, as_second))
        outcome = "failed"
        try:
            said = await self._first_to_answer(first, second)
            if isinstance(said, Answer):
                outcome = "second" if said.model == self._second.name else "first"
            return said
        finally:
            await _end(first, second)
            ask.trace.attempts += as_second.trace.attempts
            self._metrics.hedged(rpc=ask.query.rpc, outcome=outcome)

    def _learn_of_loss(self, ask: Ask) -> None:
        """Learns that the first model takes longer: were its slow calls never known, ever more would count as slow."""
        rpc, name = ask.query.rpc, self._first.name
        if self._learned:
            # Not all of what it took, or the second one would be asked later with each race that the first one loses.
            self._latency.observe(rpc, name, self._after_s)
            return
        took_s = next((each.duration_s for each in reversed(ask.trace.attempts) if each.model == name), 0.0)
        usual_s = self._latency.expected_s(rpc, name)
        # What was given up on sooner than that tells nothing.
        if usual_s is not None and took_s > usual_s:
            self._latency.observe(rpc, name, took_s)

    async def _first_to_answer(self, first: asyncio.Task[_Said], second: asyncio.Task[_Said]) -> _Said:
        running = {first, second}
        while running:
            ended, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in (each for each in (first, second) if each in ended):
                said = task.result()
                if isinstance(said, Answer) or (task is first and _is_final(said)):
                    return said
        failed = second.result()
        self._second_failed = failed if isinstance(failed, GatewayError) else None
        return first.result()

    def _as_second(self, ask: Ask) -> Ask | None:
        """Gives what the second model is asked; None where it may not be asked as well."""
        deadline = ask.deadline if self._second_until is None else self._second_until
        takes_s = self._latency.expected_s(ask.query.rpc, self._second.name) or 0.0
        if self._second_had_its_turn or not self._second.may_answer or self._clock() + takes_s >= deadline:
            return None
        try:
            options = self._affordable(ask)
        except GatewayError:
            # One of them cannot be priced, or cannot be asked at all.
            return None
        if options is None:
            return None
        trace = Trace(route_reason=ask.trace.route_reason)
        return replace(ask, deadline=deadline, options=options, trace=trace, has_next=True)

    def _affordable(self, ask: Ask) -> Options | None:
        """Gives the options for the second model, which leave the first one its worst case; None: it costs too much."""
        options = ask.options
        worst, limit = self._second.quote(ask).max_cost, options.max_cost_nano_usd
        if not worst:
            return options
        if limit is None:
            return None
        spent = sum(attempt.cost_nano_usd for attempt in ask.trace.attempts)
        fitted = self._first.fit(ask, max(limit - spent, 0))
        left = limit - spent - self._first.quote(fitted).max_cost
        return replace(options, max_cost_nano_usd=left) if worst <= left else None


async def _tried(model: Model, ask: Ask) -> _Said:
    """Gives a failure as it gives an answer, without the frames in which it was raised."""
    try:
        return await model.answer(ask)
    except GatewayError as exc:
        return exc.with_traceback(None)


async def _end(*tasks: asyncio.Task[_Said]) -> None:
    """Cancels whoever still runs, and waits until what that cost is on the record."""
    running = [task for task in tasks if not task.done()]
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)


def _is_final(failure: GatewayError) -> bool:
    """Tells whether nobody else is asked after *failure*; a share of the time that is up is not the end of it."""
    return not failure.elsewhere and failure.code is not StatusCode.DEADLINE_EXCEEDED


def _credit(trace: Trace, before: Trace, second: Trace, asked_after_s: float) -> None:
    """Puts what the second model did on the call's record in place of what the first one did.

    The wait for the first one until then is upstream's as well: else it would count as the gateway's own.
    """
    trace.queue_s = before.queue_s + second.queue_s
    trace.image_s = before.image_s + second.image_s
    trace.upstream_s = before.upstream_s + asked_after_s + second.upstream_s
    trace.cache = second.cache


def _usable(said: _Said) -> Answer:
    if isinstance(said, Answer):
        return said
    try:
        raise said
    finally:
        del said
