"""Spares a broken model calls that would fail, and its callers the wait.

Three kinds of failure:

- The caller's fault, and whatever tells nothing of the model's health: a wrong request, a refusal, an answer that
  cannot be used or reaches its limit of tokens, a limit of ours, a cost or a deadline too tight, a call taken back.
  They never count; else one caller could cut off the others.
- The backend's fault: `BackendUnavailable`, which is transport, a 5xx, or a dead process, and `BrokenOff`, the same in
  the midst of an answer, unless that was held up by its reader. A deadline that passes counts here only where the model
  hung: it was last seen not ready, or took more than twice its own 95th percentile.
- Quota: `UpstreamRateLimited`, `UpstreamAuth`, `UpstreamAccount` count as well; a rate limit with a Retry-After opens
  at once and for as long as it says.

Consecutive failures are counted as in Linkerd's `consecutive-failures` accrual, their share over a window as in the
failure percentage of gRPC's outlier detection (gRFC A50).
"""

from __future__ import annotations

from collections import deque
from enum import IntEnum
from typing import TYPE_CHECKING

import structlog

from gateway.errors import (
    BackendUnavailable,
    BrokenOff,
    DeadlineExceeded,
    GatewayError,
    Refused,
    TruncatedAnswer,
    UnusableAnswer,
    UpstreamAccount,
    UpstreamAuth,
    UpstreamRateLimited,
)
from gateway.policies import pass_by

if TYPE_CHECKING:
    from gateway.domain import Answer, Ask, Clock
    from gateway.latency import Latency
    from gateway.metrics import Metrics
    from gateway.policies import Model

_FAULTS = (BackendUnavailable, UpstreamRateLimited, UpstreamAuth, UpstreamAccount)
# The model is there and talks, if not usably.
_SIGNS_OF_LIFE = (Refused, UnusableAnswer, TruncatedAnswer)
# The share of failures is taken over so many seconds, and of so many calls at least.
_WINDOW_S = 10.0
_LEAST_CALLS = 20
# A Retry-After beyond it is not believed.
_LONGEST_RETRY_AFTER_S = 300.0
# A call that takes so many times what 19 of 20 take will not be answered.
_HUNG = 2.0
_log = structlog.get_logger()


class State(IntEnum):
    """Whether calls go through; the numbers are those of the metric."""

    CLOSED = 0
    HALF_OPEN = 1
    OPEN = 2


class Breaker:
    """Opens after failures in a row, or too large a share of them; then lets one call at a time try."""

    def __init__(  # noqa: PLR0913  what it watches and by which rule, each named at the call
        self,
        inner: Model,
        *,
        name: str,
        failures: int,
        share: float,
        open_s: float,
        longest_open_s: float,
        latency: Latency,
        metrics: Metrics,
        clock: Clock,
    ) -> None:
        """Opens after *failures* in a row, or a *share* of them in [0, 1] among the calls of ten seconds.

        The first time for *open_s* seconds, then twice as long each time, up to *longest_open_s*.
        """
        self._inner = inner
        self._name = name
        self._failures = failures
        self._share = share
        self._first_open_s = open_s
        self._longest_open_s = longest_open_s
        self._latency = latency
        self._metrics = metrics
        self._clock = clock
        self._in_a_row = 0
        self._recent: deque[tuple[float, bool]] = deque()
        self._recent_failures = 0
        self._open_s = open_s
        self._open_until = clock()
        self._closed_at = -float("inf")
        self._probing = False
        self._seen_ready = True
        self._enter(State.CLOSED)

    @property
    def is_open(self) -> bool:
        """Whether a call would be turned away now."""
        self._half_open_when_due()
        return self._state is State.OPEN or (self._state is State.HALF_OPEN and self._probing)

    @property
    def seen_ready(self) -> bool:
        """Whether the inner model was ready when it was last looked at; true before that."""
        return self._seen_ready

    @property
    def is_paused(self) -> bool:
        """Whether no call may even try now."""
        self._half_open_when_due()
        return self._state is State.OPEN

    async def answer(self, ask: Ask) -> Answer:
        """Asks the inner model, or raises `BackendUnavailable` at once; a last resort is asked, one call at a time.

        One that was not ready when it was last looked at is asked only where no other one may answer.
        """
        refuses = self.is_open
        if refuses and (self._probing or not ask.last_resort):
            raise self._paused(ask)
        if ask.has_next and not self._seen_ready:
            pass_by(ask, self._name, BackendUnavailable.reason, self._metrics)
            raise BackendUnavailable(f"{self._name} was not ready when it was last looked at")
        probes = self._state is not State.CLOSED
        self._probing = self._probing or probes
        asked_before_s, read_before_s = ask.trace.upstream_s, ask.trace.reader_s
        try:
            answer = await self._inner.answer(ask)
        except GatewayError as exc:
            broke = isinstance(exc, BrokenOff) and ask.trace.reader_s == read_before_s
            if broke or isinstance(exc, _FAULTS) or self._hung(ask, exc, asked_before_s):
                self._failed(exc, probes=probes)
            elif isinstance(exc, _SIGNS_OF_LIFE):
                self._answered(probes=probes)
            raise
        finally:
            if probes:
                self._probing = False
        self._answered(probes=probes)
        return answer

    async def ready(self) -> bool:
        """Tells whether the inner model is ready; one that was not, and is again, gets its next call at once."""
        ready = await self._inner.ready()
        # A model that was called ready all along, such as one that is not looked at, is not ready again.
        if ready and not self._seen_ready and self._state is State.OPEN:
            self._enter(State.HALF_OPEN)
        self._seen_ready = ready
        self._half_open_when_due()
        return ready

    def _half_open_when_due(self) -> None:
        if self._state is State.OPEN and self._clock() >= self._open_until:
            self._enter(State.HALF_OPEN)

    def _hung(self, ask: Ask, exc: GatewayError, asked_before_s: float) -> bool:
        if not isinstance(exc, DeadlineExceeded):
            return False
        p95_s = self._latency.p95_s(ask.query.rpc, self._name)
        took_s = ask.trace.upstream_s - asked_before_s
        return not self._seen_ready or (p95_s is not None and took_s > _HUNG * p95_s)

    def _answered(self, *, probes: bool) -> None:
        if self._state is State.CLOSED:
            self._in_a_row = 0
            self._remember(failed=False)
        elif probes:
            self._closed_at = self._clock()
            self._enter(State.CLOSED)
            _log.info("breaker_closed", model=self._name)

    def _failed(self, exc: GatewayError, *, probes: bool) -> None:
        retry_after_s = exc.retry_after_s if isinstance(exc, UpstreamRateLimited) else None
        if self._state is State.CLOSED:
            self._in_a_row += 1
            self._remember(failed=True)
            calls = len(self._recent)
            too_many = calls >= _LEAST_CALLS and self._recent_failures >= self._share * calls
            if retry_after_s is not None or too_many or self._in_a_row >= self._failures:
                self._open(exc, retry_after_s)
        elif probes and self._state is State.HALF_OPEN:
            self._open(exc, retry_after_s)

    def _open(self, exc: GatewayError, retry_after_s: float | None) -> None:
        now = self._clock()
        # One that fails again soon after it was closed goes on where it was, so that it does not flap.
        recovered = self._state is State.CLOSED and now - self._closed_at > self._longest_open_s
        self._open_s = self._first_open_s if recovered else min(self._open_s * 2, self._longest_open_s)
        open_s = self._open_s if retry_after_s is None else min(retry_after_s, _LONGEST_RETRY_AFTER_S)
        self._open_until = now + open_s
        self._in_a_row = self._recent_failures = 0
        self._recent.clear()
        self._enter(State.OPEN)
        _log.warning("breaker_opened", model=self._name, reason=exc.reason, open_s=open_s)

    def _remember(self, *, failed: bool) -> None:
        now = self._clock()
        self._recent.append((now, failed))
        self._recent_failures += failed
        while self._recent[0][0] <= now - _WINDOW_S:
            self._recent_failures -= self._recent.popleft()[1]

    def _enter(self, state: State) -> None:
        self._state = state
        self._metrics.breaker_state(self._name, state)

    def _paused(self, ask: Ask) -> BackendUnavailable:
        left_s = self._open_until - self._clock()
        pass_by(ask, self._name, BackendUnavailable.reason, self._metrics)
        # While another call tries, how that ends decides.
        wait_s = left_s if left_s > 0 else self._first_open_s
        return BackendUnavailable(f"{self._name} failed too often and is given a pause", retry_after_s=wait_s)
