"""Tries models in order until one answers."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from grpc import StatusCode

from gateway.errors import BackendUnavailable, DeadlineExceeded, DeadlineTooShort, GatewayError
from gateway.policies import pass_by

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.domain import Answer, Ask, Clock
    from gateway.latency import Latency
    from gateway.metrics import Metrics
    from gateway.policies import Candidate

# Of the time left, for a model that is not the last, while it is not known how long the next one takes.
_SHARE = 2 / 3


class Fallback:
    """Moves on when a model fails in a way that another one might not."""

    def __init__(self, candidates: Sequence[Candidate], *, latency: Latency, metrics: Metrics, clock: Clock) -> None:
        """*candidates* are asked in this order; there is at least one. *latency* knows how long they take."""
        self._candidates = candidates
        self._latency = latency
        self._metrics = metrics
        self._clock = clock

    async def answer(self, ask: Ask) -> Answer:
        """Asks each model in turn within the call's deadline; raises the failure that tells the caller most.

        One that was seen not ready passes while another one may answer, and is asked in the end, should none of them,
        in the time that they left. When every model is open, the last one is asked all the same: it may be well again.
        """
        failures: list[GatewayError] = []
        passed: list[Candidate] = []
        for candidates in (self._candidates, passed):
            for position, candidate in enumerate(candidates, start=1):
                later = candidates[position:]
                if failures:
                    self._metrics.fell_back(rpc=ask.query.rpc, reason=failures[-1].reason)
                if self._too_slow(candidate, later, ask):
                    failures.append(self._skipped(candidate, ask))
                    continue
                share = self._share(ask, candidate, later)
                passes = share.has_next and not candidate.is_ready() and not candidate.is_open()
                try:
                    return await candidate.model.answer(share)
                except (DeadlineExceeded, DeadlineTooShort):
                    # The last one had all of the time: timers may go off a little before the clock gets there.
                    if not later or self._clock() >= ask.deadline or (ask.sink is not None and ask.sink.committed):
                        raise
                    failures.append(BackendUnavailable(f"{candidate.name} did not answer in its share of the time"))
                except GatewayError as exc:
                    if not exc.elsewhere:
                        raise
                    # Its traceback leads back here: a cycle would keep the call's images until the collector runs.
                    failures.append(exc.with_traceback(None))
                    if passes and isinstance(exc, BackendUnavailable):
                        passed.append(candidate)
        raise _most_telling(failures, ask)

    async def ready(self) -> bool:
        """Tells whether any model is ready."""
        return any([await candidate.model.ready() for candidate in self._candidates])

    def _too_slow(self, candidate: Candidate, later: Sequence[Candidate], ask: Ask) -> bool:
        """Tells whether the time left is too little for what *candidate* takes, and enough for a later one."""
        left = ask.deadline - self._clock()
        expected = self._latency.expected_s(ask.query.rpc, candidate.name)
        if expected is None or expected <= left:
            return False
        others = ((each, self._latency.expected_s(ask.query.rpc, each.name)) for each in later)
        return any(takes is not None and takes <= left and each.may_answer for each, takes in others)

    def _skipped(self, candidate: Candidate, ask: Ask) -> GatewayError:
        pass_by(ask, candidate.name, DeadlineTooShort.reason, self._metrics)
        return DeadlineTooShort(f"{candidate.name} takes longer than the time that is left")

    def _share(self, ask: Ask, candidate: Candidate, later: Sequence[Candidate]) -> Ask:
        """Leaves the next model the time in which it answers 19 of 20 calls, unless this one could then not answer."""
        if not later:
            return replace(ask, last_resort=all(each.is_open() for each in self._candidates))
        now = self._clock()
        left = ask.deadline - now
        has_next = ask.has_next or any(self._could_answer(each, left, ask) for each in later)
        own = self._latency.expected_s(ask.query.rpc, candidate.name)
        of_next = self._latency.p95_s(ask.query.rpc, later[0].name)
        if own is None or of_next is None or own > left - of_next:
            share = now + left * _SHARE
        else:
            share = ask.deadline - of_next
        return replace(ask, deadline=share, until=ask.until or ask.deadline, has_next=has_next)

    def _could_answer(self, candidate: Candidate, left: float, ask: Ask) -> bool:
        """Tells whether *candidate*, asked after others, is well, and not known to be too slow."""
        takes = self._latency.expected_s(ask.query.rpc, candidate.name)
        return candidate.may_answer and (takes is None or takes <= left)


def _most_telling(failures: Sequence[GatewayError], ask: Ask) -> GatewayError:
    """Prefers a failure that a later try may mend, else the last one; names what every model said."""
    telling = next((exc for exc in failures if exc.code is StatusCode.UNAVAILABLE), failures[-1])
    if len(failures) > 1:
        tried = (f"{attempt.model}:{attempt.reason}" for attempt in ask.trace.attempts)
        telling.metadata["attempts"] = ",".join(tried)
    return telling
