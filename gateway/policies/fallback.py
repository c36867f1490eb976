"""Tries models in order until one answers."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from grpc import StatusCode

from gateway.errors import BackendUnavailable, DeadlineExceeded, DeadlineTooShort, GatewayError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.domain import Answer, Ask, Clock
    from gateway.metrics import Metrics
    from gateway.policies import Candidate

# Of the time left, for a model that is not the last: a hung one then leaves the next enough to answer.
_SHARE = 2 / 3


class Fallback:
    """Moves on when a model fails in a way that another one might not."""

    def __init__(self, candidates: Sequence[Candidate], *, metrics: Metrics, clock: Clock) -> None:
        """*candidates* are asked in this order; there is at least one."""
        self._candidates = candidates
        self._metrics = metrics
        self._clock = clock

    async def answer(self, ask: Ask) -> Answer:
        """Asks each model in turn within the call's deadline; raises the failure that tells the caller most."""
        failures: list[GatewayError] = []
        for candidate in self._candidates:
            if failures:
                self._metrics.fell_back(rpc=ask.query.rpc, reason=failures[-1].reason)
            last = candidate is self._candidates[-1]
            try:
                return await candidate.model.answer(self._share(ask, last=last))
            except (DeadlineExceeded, DeadlineTooShort):
                # The last one had all of the time: timers may go off a little before the clock gets there.
                if last or self._clock() >= ask.deadline:
                    raise
                failures.append(BackendUnavailable(f"{candidate.name} did not answer in its share of the time"))
            except GatewayError as exc:
                if not exc.elsewhere:
                    raise
                # Its traceback leads back here: a cycle would keep the call's images until the collector runs.
                failures.append(exc.with_traceback(None))
        raise _most_telling(failures, ask)

    async def ready(self) -> bool:
        """Tells whether any model is ready."""
        return any([await candidate.model.ready() for candidate in self._candidates])

    def _share(self, ask: Ask, *, last: bool) -> Ask:
        if last:
            return ask
        now = self._clock()
        return replace(ask, deadline=now + (ask.deadline - now) * _SHARE)


def _most_telling(failures: Sequence[GatewayError], ask: Ask) -> GatewayError:
    """Prefers a failure that a later try may mend, else the last one; names what every model said."""
    telling = next((exc for exc in failures if exc.code is StatusCode.UNAVAILABLE), failures[-1])
    if len(failures) > 1:
        tried = (f"{attempt.model}:{attempt.reason}" for attempt in ask.trace.attempts)
        telling.metadata["attempts"] = ",".join(tried)
    return telling
