"""Gives answers that the model gave to equal calls before, and lets equal calls in flight share one.

Of calls that share, the first one is the one that is made: it is charged to that call's principal, stands on its record
and has its deadline. The others cost nothing. They share what the model says, failures too, and nothing of what was due
to the first caller, such as its deadline or its budget: then one of them asks anew. When the first caller goes away the
call goes on as long as somebody waits for it. What other processes are asked is for `_kept` to see to.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from gateway import tracing
from gateway.domain import CacheOutcome, CachePolicy, Trace
from gateway.errors import (
    BackendUnavailable,
    CostAboveLimit,
    DeadlineExceeded,
    GatewayError,
    Refused,
    TruncatedAnswer,
    UnsupportedByModel,
    UnusableAnswer,
    UpstreamAccount,
    UpstreamAuth,
    UpstreamRateLimited,
)
from gateway.policies import pass_by
from gateway.policies._kept import Codec, Found, Kept
from gateway.singleflight import SingleFlight

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Sequence

    from gateway.cache.behind import WriteBehind
    from gateway.domain import Answer, Ask, Clock, SourceImage
    from gateway.latency import Latency
    from gateway.metrics import Metrics
    from gateway.policies import Model

__all__ = ["Cache", "Codec"]

_OF_THE_MODEL = (
    BackendUnavailable,
    Refused,
    TruncatedAnswer,
    UnsupportedByModel,
    UnusableAnswer,
    UpstreamAccount,
    UpstreamAuth,
    UpstreamRateLimited,
)
# Seconds for the pictures to be told apart; a call is not held up longer by that.
_PATIENCE_S = 2.0


class Cache:
    """Looks an ask up before it is asked; a hit is served whatever state the model is in."""

    def __init__(  # noqa: PLR0913  the parts it is made of, each named at the call
        self,
        inner: Model,
        *,
        name: str,
        store: WriteBehind,
        digest: Callable[[SourceImage], Awaitable[bytes]],
        key: Callable[[Ask, Sequence[bytes]], bytes],
        codec: Codec,
        fit: Callable[[Ask, int], Ask],
        latency: Latency,
        metrics: Metrics,
        clock: Clock,
    ) -> None:
        """*digest* tells pictures apart, *key* equal asks of pictures whose digests are given.

        *fit* makes an ask fit into an allowance, as for `Cap`; *latency* knows how long the model takes.
        """
        self._inner = inner
        self._name = name
        self._digest = digest
        self._key = key
        self._codec = codec
        self._kept = Kept(inner, name=name, store=store, codec=codec, latency=latency, metrics=metrics, clock=clock)
        self._fit = fit
        self._metrics = metrics
        self._clock = clock
        self._flights: SingleFlight[Found] = SingleFlight()

    async def answer(self, ask: Ask) -> Answer:
        """Gives what is kept or under way for an equal call, else asks the inner model and keeps what it answers."""
        if ask.options.cache is CachePolicy.BYPASS:
            self._count(ask, "bypass")
            return await self._inner.answer(ask)
        key = await self._key_of(ask)
        if key is None:
            self._count(ask, "error")
            return await self._inner.answer(ask)
        if ask.sink is not None:
            # What one caller reads as it is written, no other one can.
            found = await self._kept.find(ask, key, lambda: True)
            return _given(ask, found)
        return await self._together(ask, key)

    async def ready(self) -> bool:
        """Tells whether the inner model is ready."""
        return await self._inner.ready()

    async def _key_of(self, ask: Ask) -> bytes | None:
        """Gives the key of what the model would be asked; None where a picture cannot be looked at."""
        started = self._clock()
        try:
            with tracing.span("image digest"):
                async with asyncio.timeout(min(ask.deadline - started, _PATIENCE_S)):
                    pictures = [await self._digest(image) for image in ask.images]
        except (GatewayError, TimeoutError):
            # Whether that is the end of the call is for the model's own stack to say.
            return None
        finally:
            ask.trace.image_s += self._clock() - started
        limit = ask.options.max_cost_nano_usd
        if limit is not None:
            # A call made to fit is another call: shorter, or of a smaller image. One that cannot be may yet be a hit.
            spent = sum(attempt.cost_nano_usd for attempt in ask.trace.attempts)
            with suppress(CostAboveLimit, UnsupportedByModel):
                ask = self._fit(ask, max(limit - spent, 0))
        return self._key(ask, pictures)

    async def _together(self, ask: Ask, key: bytes) -> Answer:
        options = ask.options
        # Those whom the model's queue, its tier, or its pauses treat alike.
        alike = f"{options.service_tier.value}:{options.urgency.value}:{ask.last_resort:d}:{ask.has_next:d}"
        while True:
            # Of its own: the first caller's record is closed when that caller goes.
            trace = Trace(attempts=list(ask.trace.attempts), route_reason=ask.trace.route_reason)
            find = partial(self._kept.find, replace(ask, trace=trace), key, alike=alike)
            found, leads = self._flights.join((key, alike), find, anew=options.cache is CachePolicy.REFRESH)
            if leads:
                return await self._lead(ask, trace, found)
            answer = await self._follow(ask, found)
            if answer:
                return answer

    async def _lead(self, ask: Ask, trace: Trace, found: Coroutine[object, object, Found]) -> Answer:
        known = len(trace.attempts)
        try:
            return _given(ask, await found)
        finally:
            ask.trace.attempts += trace.attempts[known:]
            ask.trace.queue_s += trace.queue_s
            ask.trace.image_s += trace.image_s
            ask.trace.upstream_s += trace.upstream_s

    async def _follow(self, ask: Ask, found: Coroutine[object, object, Found]) -> Answer | None:
        """Gives what the model answered the first caller; None where that says nothing about this one."""
        started = self._clock()
        try:
            with tracing.span("wait for equal call"):
                async with asyncio.timeout(ask.deadline - started):
                    shared = await found
        except TimeoutError:
            raise DeadlineExceeded(
                "the time was up before the equal call was answered that this one waited for"
            ) from None
        except _OF_THE_MODEL as exc:
            self._count(ask, "coalesced")
            pass_by(ask, self._name, exc.reason, self._metrics, seconds=self._clock() - started)
            raise _again(exc) from None
        except GatewayError:
            return None
        finally:
            ask.trace.upstream_s += self._clock() - started
        # What was a miss for the first caller is none for this one.
        ask.trace.cache = CacheOutcome.HIT if shared.outcome is CacheOutcome.HIT else CacheOutcome.COALESCED
        self._count(ask, ask.trace.cache.value)
        return self._codec.decode(ask.query.rpc, shared.value)

    def _count(self, ask: Ask, outcome: str) -> None:
        self._metrics.cached(rpc=ask.query.rpc, outcome=outcome)


def _given(ask: Ask, found: Found) -> Answer:
    ask.trace.cache = found.outcome
    return found.answer


def _again(exc: GatewayError) -> GatewayError:
    # Policies further out write on what they are raised. What it cost stands on the first caller's record.
    return type(exc)(str(exc), metadata=exc.metadata, retry_after_s=exc.retry_after_s, elsewhere=exc.elsewhere)
