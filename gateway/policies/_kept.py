"""Finds a model's answer in the store of the cache, or asks for it and keeps it.

Of the processes that share a store, one at a time asks: the others look again until its answer is there. They share
nothing but that answer: when the process that asks fails, gives up or dies, one of the others asks. Each asks anyhow
while there is time for it, and when the store is down.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, TypeAlias
from uuid import uuid4

from gateway import tracing
from gateway.cache import Claim, StoreFailed
from gateway.domain import CacheOutcome, CachePolicy

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from gateway.cache.behind import WriteBehind
    from gateway.cache.turn import Turn
    from gateway.domain import Answer, Ask, Clock
    from gateway.latency import Latency
    from gateway.metrics import Metrics
    from gateway.policies import Model
    from gateway.singleflight import IsLatest

# Seconds until one looks again whether another process has answered, the first time and at most.
_FIRST_PAUSE_S = 0.025
_LONGEST_PAUSE_S = 0.25
# Of the time left, for asking oneself when another process has not answered; more where the model takes longer.
_SHARE = 1 / 3
_HIT, _MISS, _COALESCED = (each.value for each in (CacheOutcome.HIT, CacheOutcome.MISS, CacheOutcome.COALESCED))
# What a look came to, as the metrics call it, and what was found or the turn to ask; neither where one asks without.
_Looked: TypeAlias = "tuple[str, Found | Turn | None]"


@dataclass(frozen=True, slots=True)
class Codec:
    """Turns answers into bytes and back; *decode* is given the RPC too, and raises ValueError for other bytes."""

    encode: Callable[[Answer], bytes]
    decode: Callable[[str, bytes], Answer]


@dataclass(frozen=True, slots=True)
class Found:
    """What equal calls share: the first one's *answer*, and the bytes from which each of the others makes its own.

    *outcome* is what it was for the first one.
    """

    answer: Answer
    value: bytes
    outcome: CacheOutcome


class Kept:
    """One model, and its answers in the store."""

    def __init__(  # noqa: PLR0913  the parts it is made of, each named at the call
        self,
        inner: Model,
        *,
        name: str,
        store: WriteBehind,
        codec: Codec,
        latency: Latency,
        metrics: Metrics,
        clock: Clock,
    ) -> None:
        """*latency* knows how long the *inner* model, known by *name*, takes."""
        self._inner = inner
        self._name = name
        self._store = store
        self._codec = codec
        self._latency = latency
        self._metrics = metrics
        self._clock = clock

    async def find(self, ask: Ask, key: bytes, is_latest: IsLatest, *, alike: str | None = None) -> Found:
        """Gives what is kept under *key*, unless the caller wants it asked anew, else asks and keeps what is answered.

        *alike* tells apart the calls that the model would treat differently; when another process asks the same, its
        answer is waited for. None waits for nobody.
        """
        is_anew = ask.options.cache is CachePolicy.REFRESH
        outcome, found = ("refresh", None) if is_anew else await self._look_up(ask, key, alike)
        self._metrics.cached(rpc=ask.query.rpc, outcome=outcome)
        if isinstance(found, Found):
            return found
        try:
            known = len(ask.trace.attempts)
            answer = await self._inner.answer(ask)
            value = self._codec.encode(answer)
            if is_latest() and not _was_cut(ask, known):
                # Not the ask, whose images would be in memory for as long as the store takes.
                lost = partial(self._metrics.cached, rpc=ask.query.rpc, outcome="error")
                self._store.put(key, value, lost=lost, turn=found)
        finally:
            if found:
                found.end()
        return Found(answer, value, CacheOutcome.MISS)

    async def _look_up(self, ask: Ask, key: bytes, alike: str | None) -> _Looked:
        claim = None if alike is None else Claim(key, alike, uuid4().hex)
        look = partial(self._look, ask.query.rpc, key, claim)
        with tracing.span("cache lookup") as span:
            outcome, found = await look()
            if span:
                span.set({"vision_gateway.cache": outcome})
        return await self._wait(ask, look) if outcome == _COALESCED else (outcome, found)

    async def _look(self, rpc: str, key: bytes, claim: Claim | None) -> _Looked:
        try:
            value = await (self._store.get(key) if claim is None else self._store.get_or_claim(claim))
            if isinstance(value, bytes):
                return _HIT, Found(self._codec.decode(rpc, value), value, CacheOutcome.HIT)
        except (StoreFailed, ValueError):
            return "error", None
        return _COALESCED if claim and value is None else _MISS, value

    async def _wait(self, ask: Ask, look: Callable[[], Awaitable[_Looked]]) -> _Looked:
        """Looks again until another process has answered or does not ask any more, or until it is time to ask."""
        started = self._clock()
        left_s = ask.deadline - started
        takes_s = self._latency.expected_s(ask.query.rpc, self._name) or 0.0
        ask_at = ask.deadline - max(takes_s, left_s * _SHARE)
        pause_s = _FIRST_PAUSE_S
        try:
            with tracing.span("wait for equal call"):
                while (left_s := ask_at - self._clock()) > 0:
                    await asyncio.sleep(min(pause_s, left_s))
                    pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
                    outcome, found = await look()
                    if isinstance(found, Found):
                        return _COALESCED, replace(found, outcome=CacheOutcome.COALESCED)
                    if outcome != _COALESCED:
                        return outcome, found
        finally:
            ask.trace.upstream_s += self._clock() - started
        return _MISS, None


def _was_cut(ask: Ask, known: int) -> bool:
    """Tells whether the attempt that answered may have had less of `max_cost` to fit into than the call began with."""
    if ask.options.max_cost_nano_usd is None:
        return False
    return any(attempt.cost_nano_usd for attempt in ask.trace.attempts[known:-1])
