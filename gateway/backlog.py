"""Tells a burst, which is worth waiting out, from overload, in which each that waits makes the next one wait as well.

Controlled delay, as in B. Maurer, "Fail at Scale", ACM Queue 13(8), 2015 (https://queue.acm.org/detail.cfm?id=2839461):
a queue that is empty now and then may be long; one that has stood for a while is kept short, so that those who are let
in take about as long as they would without load. There a queue that is empty for a moment is a new one. But one that is
kept short is often empty for a moment, and would grow long each time: ours has to stay empty for as long.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.domain import Clock

# Seconds. There they are 0.1, of requests that take milliseconds; ours take some tenths of a second and more.
_BURST_S = 1.0
# Seconds that nobody minds: a queue of calls that are over in milliseconds may stand, and be longer than a few.
_BRIEF_S = 0.25


class Backlog:
    """How many wait, and whether they have for so long that it is no burst."""

    def __init__(self, clock: Clock) -> None:
        """Nobody waits."""
        self._clock = clock
        self._count = 0
        self._since = clock()
        self._stood = False

    def hold(self, count: int) -> None:
        """*count* wait from now on."""
        if bool(count) != bool(self._count):
            self._stood, self._since = self._stands, self._clock()
        self._count = count

    def is_closed(self, *, beyond: float, wait_s: float) -> bool:
        """Tells whether one that comes now is to be turned away, who would wait for *wait_s* seconds.

        So it is while the queue stands, where *beyond* wait already and the wait would not be brief.
        """
        return self._count >= beyond and wait_s > _BRIEF_S and self._stands

    @property
    def _stands(self) -> bool:
        """Whether somebody waited at every moment for longer than a burst takes; until for as long nobody has."""
        if self._clock() - self._since > _BURST_S:
            return self._count > 0
        return self._stood
