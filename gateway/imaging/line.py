"""The places of those who decode, and the line for them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from gateway.backlog import Backlog
from gateway.errors import DeadlineExceeded, Overloaded

if TYPE_CHECKING:
    from gateway.domain import Clock

_RETRY_AFTER_S: Final = 1.0
# Of the last job in how long one takes; the jobs before have the rest.
_NEWEST: Final = 0.1
# Jobs take now longer and now shorter: with none to spare, many would wait in vain.
_MARGIN: Final = 1.5
# For each place, in a line that overload has left standing: so few that a job waits for about two others, and so many
# that no place is empty. More where they are over soon.
_STANDING: Final = 2


class Line:
    """So many places, and jobs that wait for one, first come first served.

    A job that would wait for longer than it has is refused at once; so is one for which a line is too long that has
    stood for a while.
    """

    def __init__(self, *, places: int, max_waiting: int, clock: Clock) -> None:
        """At most *max_waiting* jobs wait for one of the *places*."""
        self._free = asyncio.Semaphore(places)
        self._places = places
        self._max_waiting = max_waiting
        self._waiting = 0
        self._backlog = Backlog(clock)
        self._job_s = 0.0

    async def take(self, timeout_s: float) -> None:
        """Takes a place within *timeout_s* less what a job takes; raises `Overloaded` or `DeadlineExceeded`."""
        if not self._free.locked():
            await self._free.acquire()
            return
        wait_s = (self._waiting + 1) * self._job_s / self._places
        is_closed = self._backlog.is_closed(beyond=_STANDING * self._places, wait_s=wait_s)
        if is_closed or self._waiting >= self._max_waiting or _MARGIN * wait_s > timeout_s:
            raise Overloaded("too many images wait to be decoded", retry_after_s=wait_s or _RETRY_AFTER_S)
        self._wait(1)
        try:
            async with asyncio.timeout(timeout_s - self._job_s):
                await self._free.acquire()
        except TimeoutError:
            raise DeadlineExceeded("the time was up before the image's turn to be decoded") from None
        finally:
            self._wait(-1)

    def leave(self) -> None:
        """Gives a place back."""
        self._free.release()

    def took(self, seconds: float) -> None:
        """Learns how long a job took."""
        self._job_s += (_NEWEST if self._job_s else 1.0) * (seconds - self._job_s)

    def _wait(self, more: int) -> None:
        self._waiting += more
        self._backlog.hold(self._waiting)
