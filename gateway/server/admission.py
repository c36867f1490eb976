"""Lets calls in by their headers, before anything of their bodies is read, and can end those it let in."""

from __future__ import annotations

import asyncio
import random
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from gateway.errors import DeadlineExceeded, Draining, Overloaded

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from gateway.errors import GatewayError
    from gateway.metrics import Metrics

# Seconds after which a refused caller does well to come back; spread, so that they do not come back together.
_RETRY_OVERLOADED_S = (0.25, 0.75)
_RETRY_DRAINING_S = (0.05, 0.15)


class Seat:
    """The place of one call: how long it may take, and with which error it ends when it takes longer."""

    def __init__(self, opened_at: float) -> None:
        """*opened_at* is on the event loop's clock."""
        self.opened_at = opened_at
        self.timeout = asyncio.timeout(None)
        self.error: GatewayError = DeadlineExceeded("the time is up")
        self._ended = False

    def end_after(self, seconds: float, error: GatewayError) -> None:
        """Ends the call with *error* unless it is over in *seconds*, in place of what was said before."""
        if not self._ended and not self.timeout.expired():
            self.error = error
            self.timeout.reschedule(asyncio.get_running_loop().time() + max(seconds, 0.0))

    def end(self, error: GatewayError) -> None:
        """Ends the call with *error* now, whatever is said later."""
        self.end_after(0, error)
        self._ended = True


class Admission:
    """Bounds the calls in flight.

    A place is held from a call's headers to its answer. Calls whose bodies do not come cannot lock others out: when
    all places are taken, the one that has waited longest for its body makes room.
    """

    def __init__(
        self,
        max_inflight: int,
        metrics: Metrics,
        *,
        patience_s: float = 1.0,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        """For *patience_s* seconds a call without its body keeps its place whoever else comes.

        *uniform* draws the seconds that a refused caller is told to wait.
        """
        self._max_inflight = max_inflight
        self._patience_s = patience_s
        self._metrics = metrics
        self._uniform = uniform
        self._seats: set[Seat] = set()
        # In the order of their arrival, which is what a dict keeps and a set does not.
        self._without_body: dict[Seat, None] = {}
        self._closed = False
        self._empty = asyncio.Event()
        self._empty.set()

    @asynccontextmanager
    async def admit(self) -> AsyncGenerator[Seat]:
        """Gives a call its place; raises `Overloaded` or `Draining`, and what its seat says when its time is up."""
        seat = Seat(asyncio.get_running_loop().time())
        self._make_room(seat)
        self._seats.add(seat)
        self._without_body[seat] = None
        self._empty.clear()
        try:
            with self._metrics.inflight("server").track_inprogress():
                async with seat.timeout:
                    yield seat
        except TimeoutError:
            if seat.timeout.expired():
                raise seat.error from None
            raise
        finally:
            self._without_body.pop(seat, None)
            self._seats.discard(seat)
            if not self._seats:
                self._empty.set()

    def body_read(self, seat: Seat) -> None:
        """Notes that a call's body is in: from now on its place is its own."""
        self._without_body.pop(seat, None)

    def resize(self, max_inflight: int) -> None:
        """Has *max_inflight* places from now on; calls that are in stay, also where they are more."""
        self._max_inflight = max_inflight

    def close(self) -> None:
        """Refuses every call from now on."""
        self._closed = True

    def end_all(self) -> None:
        """Ends every call in flight; their callers are told to go elsewhere."""
        for seat in self._seats:
            seat.end(self._draining())

    async def empty(self) -> None:
        """Waits until no call is in flight."""
        await self._empty.wait()

    def _make_room(self, newcomer: Seat) -> None:
        if self._closed:
            raise self._shed(self._draining())
        if len(self._seats) < self._max_inflight:
            return
        oldest = next(iter(self._without_body), None)
        if oldest is None or newcomer.opened_at - oldest.opened_at < self._patience_s:
            raise self._shed(self._overloaded(f"all {self._max_inflight} places are taken"))
        # It leaves when the loop next turns; until then there is one call more than there are places.
        self._without_body.pop(oldest)
        late = self._overloaded("all places are taken, and the body of this call has not arrived")
        oldest.end(self._shed(late))

    def _overloaded(self, message: str) -> Overloaded:
        return Overloaded(message, retry_after_s=self._uniform(*_RETRY_OVERLOADED_S))

    def _draining(self) -> Draining:
        return Draining("this gateway is shutting down", retry_after_s=self._uniform(*_RETRY_DRAINING_S))

    def _shed(self, error: GatewayError) -> GatewayError:
        self._metrics.shed(error.reason)
        return error
