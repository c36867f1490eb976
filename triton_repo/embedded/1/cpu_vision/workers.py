"""Threads that work on requests: never more of them waiting than allowed, and none that nobody waits for."""

from __future__ import annotations

import logging
import threading
from collections import deque
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from cpu_vision.stop import Stop

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_log = logging.getLogger(__name__)
ToolsT_contra = TypeVar("ToolsT_contra", contravariant=True)


class Job(Protocol[ToolsT_contra]):
    """One request. All of its methods return quickly but `run`; none of them raises."""

    def run(self, tools: ToolsT_contra, stop: Stop) -> None:
        """Answers the request, in a worker's thread, with that worker's tools."""
        ...

    def drop(self) -> None:
        """Ends the request unanswered: it was cancelled before it was begun, or the workers are closing."""
        ...

    def is_cancelled(self) -> bool:
        """Tells whether the caller has gone."""
        ...


class Workers(Generic[ToolsT_contra]):
    """One thread for each set of tools, and one that looks after cancelled requests."""

    def __init__(
        self,
        tools: Sequence[ToolsT_contra],
        *,
        max_in_flight: int,
        poll_s: float = 0.03,
        on_change: Callable[[int], None] = lambda _: None,
    ) -> None:
        """*max_in_flight* counts jobs at work and waiting; *on_change* is told their number whenever it changes.

        Every *poll_s* seconds the jobs in flight are asked whether they were cancelled.
        """
        self._max_in_flight = max_in_flight
        self._poll_s = poll_s
        self._on_change = on_change
        self._changed = threading.Condition()
        self._waiting: deque[Job[ToolsT_contra]] = deque()
        self._in_flight: dict[Job[ToolsT_contra], Stop] = {}
        self._closing = False
        self._threads = [threading.Thread(target=self._work, args=(tool,), daemon=True) for tool in tools]
        self._threads.append(threading.Thread(target=self._watch, daemon=True))
        for thread in self._threads:
            thread.start()

    def submit(self, job: Job[ToolsT_contra]) -> bool:
        """Takes a job, or returns False when as many as allowed are in flight."""
        with self._changed:
            if self._closing or len(self._in_flight) >= self._max_in_flight:
                return False
            self._in_flight[job] = Stop()
            self._waiting.append(job)
            self._tell()
            return True

    def close(self) -> None:
        """Drops the jobs that wait, stops those at work, and returns when all threads have ended."""
        with self._changed:
            self._closing = True
            dropped = list(self._waiting)
            self._waiting.clear()
            for stop in self._in_flight.values():
                stop.tell()
            self._changed.notify_all()
        for job in dropped:
            job.drop()
            self._end(job)
        for thread in self._threads:
            thread.join()

    def _work(self, tools: ToolsT_contra) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closing)
                if self._closing:
                    return
                job = self._waiting.popleft()
                stop = self._in_flight[job]
            try:
                job.run(tools, stop)
            except Exception as error:  # noqa: BLE001 - a worker that ended would never be missed
                _log.error("a job raised %s", type(error).__name__)
            self._end(job)

    def _watch(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._in_flight or self._closing)
                if self._closing:
                    return
                in_flight = list(self._in_flight.items())
            for job, stop in in_flight:
                if not stop and job.is_cancelled():
                    stop.tell()
                    self._drop_if_waiting(job)
            with self._changed:
                self._changed.wait_for(lambda: self._closing, timeout=self._poll_s)

    def _drop_if_waiting(self, job: Job[ToolsT_contra]) -> None:
        with self._changed:
            if job not in self._waiting:
                return
            self._waiting.remove(job)
        job.drop()
        self._end(job)

    def _end(self, job: Job[ToolsT_contra]) -> None:
        with self._changed:
            del self._in_flight[job]
            self._tell()

    def _tell(self) -> None:
        self._on_change(len(self._in_flight))
        self._changed.notify_all()
