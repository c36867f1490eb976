"""How many calls a model is asked at once: a fixed number, or one that follows how fast it answers.

`Gradient` is after Netflix's Gradient2 limit
(https://github.com/Netflix/concurrency-limits/blob/main/concurrency-limits-core/src/main/java/com/netflix/concurrency/limits/limit/Gradient2Limit.java),
with the headroom of Envoy's adaptive concurrency filter
(https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_filters/adaptive_concurrency_filter), the square
root of the limit. docs/decisions tells why, and what differs.
"""

from __future__ import annotations

import math
from collections import defaultdict
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from gateway.domain import Clock

# Few enough that they do not slow each other down: what they take when all is new is what is usual.
_FLOOR = 4
# A window ends after so many answers and so many seconds, both.
_FEWEST = 10
_WINDOW_S = 1.0
# So many times as slow as usual is not yet taken for overload: answers of one kind differ in length.
_TOLERANCE = 2.0
_STEEPEST = 0.5
# Of the limit, what a model that says it is overloaded leaves.
_BACKOFF = 0.9
# What is usual follows faster answers by a fifth each window, slower ones within minutes; these only where our calls do
# not slow each other down. They do if half as many take less than so much of the time.
_FALL = 0.2
_RISE_S = 300.0
_HELPED = 0.8
# A window that took longer, for want of calls, says no more about time than one of so many seconds.
_LONGEST_WINDOW_S = 60.0


class Concurrency(Protocol):
    """Says how many calls may be in flight, and learns from those that were."""

    @property
    def limit(self) -> int:
        """Calls at once, 1 at least."""
        ...

    def took(self, kind: str, seconds: float, inflight: int) -> None:
        """Learns that a call of *kind* took *seconds*, and how many were in flight when it began, itself included."""
        ...

    def overloaded(self) -> None:
        """Learns that the model turned a call away because it has too many."""
        ...


class Fixed:
    """Always the same."""

    def __init__(self, limit: int) -> None:
        """*limit* is at least 1."""
        self.limit = limit

    def took(self, kind: str, seconds: float, inflight: int) -> None:
        """Learns nothing."""

    def overloaded(self) -> None:
        """Learns nothing."""


class Gradient:
    """Shrinks while answers take more than twice as long as usual, grows while they do not and the room is used.

    Kinds of calls that differ in how long they take are each measured against what is usual for them. A model that
    stays slow when it is asked half as many calls is slow by itself: what it takes is what is usual minutes later.
    """

    def __init__(self, ceiling: int, clock: Clock) -> None:
        """Stays between 4 and *ceiling*, at least 1, and starts at 4; or at the ceiling where that is lower."""
        self._ceiling = float(ceiling)
        self._floor = float(min(_FLOOR, ceiling))
        self._limit = self._floor
        # Doubles until answers are slow for the first time, as TCP does (RFC 5681, slow start).
        self._starting = True
        self._clock = clock
        self._usual_s: dict[str, float] = {}
        self._seconds: defaultdict[str, list[float]] = defaultdict(list)
        self._count = self._most_inflight = 0
        self._began_at = clock()
        self._backed_off_at = -math.inf
        # While answers are slow: the limit at which they became so, how slow they were, and if that is our doing.
        self._slow_at: float | None = None
        self._slowest = 0.0
        self._not_ours = False

    @property
    def limit(self) -> int:
        """Calls at once."""
        return int(self._limit)

    def took(self, kind: str, seconds: float, inflight: int) -> None:
        """Learns from an answer, or from a deadline that passed without one after *seconds*."""
        self._seconds[kind].append(seconds)
        self._count += 1
        self._most_inflight = max(self._most_inflight, inflight)
        if self._count >= _FEWEST and self._clock() - self._began_at >= _WINDOW_S:
            self._end()

    def overloaded(self) -> None:
        """Shrinks by a tenth, once a second at most: many calls may be told of one and the same overload."""
        now = self._clock()
        self._starting = False
        if now - self._backed_off_at >= _WINDOW_S:
            self._backed_off_at = now
            self._resize(self._limit * _BACKOFF)
            self._begin()

    def _begin(self) -> None:
        self._began_at = self._clock()
        self._seconds.clear()
        self._count = 0
        self._most_inflight = 0

    def _end(self) -> None:
        passed_s = min(self._clock() - self._began_at, _LONGEST_WINDOW_S)
        mean_s = {kind: max(sum(seconds) / len(seconds), 1e-6) for kind, seconds in self._seconds.items()}
        slowness = sum(
            len(self._seconds[kind]) / self._count * mean / self._usual_s.setdefault(kind, mean)
            for kind, mean in mean_s.items()
        )
        gradient = min(max(_TOLERANCE / slowness, _STEEPEST), 1.0)
        # A limit that is not used is neither the cause of slow answers nor shown to be too low.
        is_used = self._most_inflight * 2 >= self.limit
        may_rise = not is_used or (gradient < 1.0 and self._is_not_ours(slowness))
        rise = 1 - math.exp(-passed_s / _RISE_S) if may_rise else 0.0
        for kind, mean in mean_s.items():
            usual_s = self._usual_s[kind]
            self._usual_s[kind] += (_FALL if mean < usual_s else rise) * (mean - usual_s)
        if gradient == 1.0:
            self._slow_at = None
        if is_used:
            self._starting = self._starting and gradient == 1.0
            room = self._limit if self._starting else math.sqrt(self._limit)
            self._resize(self._limit * gradient + room)
        self._begin()

    def _is_not_ours(self, slowness: float) -> bool:
        """Tells whether answers stayed slow though half as many calls were made at once."""
        if self._slow_at is None:
            self._slow_at, self._slowest, self._not_ours = self._limit, 0.0, False
        if self._not_ours:
            return True
        self._slowest = max(self._slowest, slowness)
        has_halved = self._limit <= max(self._slow_at / 2, self._floor)
        self._not_ours = has_halved and slowness > _HELPED * self._slowest
        return self._not_ours

    def _resize(self, limit: float) -> None:
        self._limit = min(max(limit, self._floor), self._ceiling)
