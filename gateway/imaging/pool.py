"""A pool of decode workers: started when needed, killed when they take too long, replaced when they are gone."""

from __future__ import annotations

import asyncio
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import structlog

from gateway.errors import DeadlineExceeded, Draining, Overloaded
from gateway.imaging.limits import Flaw
from gateway.imaging.line import Line
from gateway.imaging.process import Worker, WorkerDied

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.domain import Clock
    from gateway.imaging.frames import Job, Reply

_log = structlog.get_logger(__name__)

_COMMAND: Final = (sys.executable, "-P", "-m", "gateway.imaging.worker")
_START_S: Final = 10.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 5.0
# Seconds for a job that nobody waits for any more: most end in less, and to start another process takes as long.
_LINGER_S: Final = 0.25


class Pool:
    """At most so many workers, each doing one job at a time; jobs beyond that wait in line.

    A worker that is killed takes no other's job with it. Safe to use from many coroutines of one event loop.
    """

    def __init__(  # noqa: PLR0913  each is a bound of its own
        self,
        *,
        workers: int = 2,
        max_waiting: int = 64,
        timeout_s: float = 5.0,
        memory_bytes: int = 1 << 30,
        jobs_per_worker: int = 256,
        command: Sequence[str] = _COMMAND,
        clock: Clock = time.monotonic,
    ) -> None:
        """*timeout_s* and *memory_bytes* of address space are what one job may take.

        A worker is replaced after *jobs_per_worker* jobs. *command* starts one, and is given *memory_bytes*.
        """
        self._line = Line(places=workers, max_waiting=max_waiting, clock=clock)
        self._working: set[asyncio.Task[tuple[Reply, bytes]]] = set()
        self._timeout_s = timeout_s
        self._jobs_per_worker = jobs_per_worker
        self._command = (*command, str(memory_bytes))
        self._clock = clock
        self._idle: list[Worker] = []
        self._busy: set[Worker] = set()
        self._ending: set[asyncio.Task[None]] = set()
        self._stopped = False
        self._pause_s = 0.0
        self._paused_until = clock()

    async def start(self) -> None:
        """Starts the first worker, so that an installation that cannot decode is told at start-up; `Overloaded`."""
        worker = await self._start_worker(self._clock() + _START_S)
        self._busy.discard(worker)
        self._idle.append(worker)

    async def stop(self) -> None:
        """Kills every worker; jobs that are under way end with `Draining`."""
        self._stopped = True
        for worker in (*self._idle, *self._busy):
            self._end(worker)
        self._idle.clear()
        while self._working or self._ending:
            await asyncio.gather(*self._working, *self._ending, return_exceptions=True)

    async def run(self, job: Job, data: bytes, *, timeout_s: float) -> tuple[Reply, bytes]:
        """Has *job* done on *data* within *timeout_s*, waiting included.

        Where it is cancelled, or the time is up, the worker has a moment to end by itself before it is killed. Raises
        `Flaw` of `complexity` where the pool's own time for a job is not enough, and of `decode` where the image kills
        its worker twice; `DeadlineExceeded`, `Overloaded` or `Draining`.
        """
        deadline = self._clock() + timeout_s
        await self._line.take(timeout_s)
        work = asyncio.create_task(self._work(job, data, deadline))
        self._working.add(work)
        work.add_done_callback(self._worked)
        try:
            async with asyncio.timeout(deadline - self._clock()):
                return await asyncio.shield(work)
        except TimeoutError:
            raise _late() from None
        finally:
            if not work.done():
                asyncio.get_running_loop().call_later(_LINGER_S, work.cancel)

    def _worked(self, work: asyncio.Task[tuple[Reply, bytes]]) -> None:
        self._working.discard(work)
        self._line.leave()
        if not work.cancelled():
            # Where nobody waits for it any more, nobody else will look at it.
            work.exception()

    async def _work(self, job: Job, data: bytes, deadline: float) -> tuple[Reply, bytes]:
        try:
            try:
                return await self._attempt(job, data, deadline)
            except WorkerDied:
                # Somebody else may have killed it, such as the kernel when memory is short.
                return await self._attempt(job, data, deadline)
        except WorkerDied:
            raise Flaw("decode", "the image makes its decoder fail; save it again with another program") from None

    async def _attempt(self, job: Job, data: bytes, deadline: float) -> tuple[Reply, bytes]:
        worker = await self._take_worker(deadline)
        started = self._clock()
        left = deadline - started + _LINGER_S
        timeout_s = min(left, self._timeout_s)
        good = False
        try:
            async with asyncio.timeout(timeout_s):
                reply, picture = await worker.run(replace(job, timeout_s=timeout_s), data)
            good = reply.outcome != "complexity"
        except TimeoutError:
            if left < self._timeout_s:
                raise _late() from None
            raise Flaw(
                "complexity",
                f"the image takes more than {self._timeout_s:g} s to decode; save it again as baseline JPEG, "
                "or scale it down",
            ) from None
        except WorkerDied:
            if self._stopped:
                raise Draining("the gateway is shutting down") from None
            _log.warning("decode worker died", source_format=job.source_format, byte_count=len(data))
            raise
        finally:
            self._line.took(self._clock() - started)
            if good and worker.jobs_done < self._jobs_per_worker and not self._stopped:
                self._busy.discard(worker)
                self._idle.append(worker)
            else:
                self._end(worker)
        return reply, picture

    async def _take_worker(self, deadline: float) -> Worker:
        if self._stopped:
            raise Draining("the gateway is shutting down")
        if not self._idle:
            return await self._start_worker(deadline)
        worker = self._idle.pop()
        self._busy.add(worker)
        return worker

    async def _start_worker(self, deadline: float) -> Worker:
        now = self._clock()
        if now < self._paused_until:
            raise Overloaded("images cannot be decoded at the moment", retry_after_s=self._paused_until - now)
        left = deadline - now
        worker, ready = None, False
        try:
            async with asyncio.timeout(min(_START_S, left)):
                worker = await Worker.start(self._command)
                self._busy.add(worker)
                await worker.ready()
            ready = not self._stopped
        except (OSError, WorkerDied) as exc:
            if isinstance(exc, TimeoutError) and left < _START_S:
                raise _late() from None
            if not self._stopped:
                raise self._pause(exc) from exc
        finally:
            if worker is not None and not ready:
                self._end(worker)
        if worker is None or not ready:
            raise Draining("the gateway is shutting down")
        self._pause_s = 0.0
        return worker

    def _pause(self, why: Exception) -> Overloaded:
        """Puts off the next start, longer each time, so that workers that cannot start do not keep the machine busy."""
        self._pause_s = min(max(_FIRST_PAUSE_S, 2 * self._pause_s), _LONGEST_PAUSE_S)
        self._paused_until = self._clock() + self._pause_s
        _log.error("decode worker does not start", cause=type(why).__name__, pause_s=self._pause_s)
        return Overloaded("images cannot be decoded at the moment", retry_after_s=self._pause_s)

    def _end(self, worker: Worker) -> None:
        worker.kill()
        self._busy.discard(worker)
        # The loop itself keeps no task alive.
        task = asyncio.create_task(worker.gone())
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)


def _late() -> DeadlineExceeded:
    return DeadlineExceeded("the time was up before the image was decoded")
