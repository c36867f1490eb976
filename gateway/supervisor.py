"""Keeps several workers running: gateways, each a process of its own, that share the ports and what they count."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import structlog

from gateway.metrics.seat import Seat

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator, Sequence
    from pathlib import Path

    from gateway.domain import Clock

# Seconds between two signs of life of a worker; without one for so long it hangs; and it may take so long to start.
BEAT_S = 1.0
_HUNG_AFTER_S = 10.0
_STARTING_S = 60.0
# Seconds before a worker that ended is replaced: doubled each time, and back to the first after a good while.
_FIRST_WAIT_S = 0.5
_LONGEST_WAIT_S = 30.0
_GOOD_WHILE_S = 60.0

_log = structlog.get_logger()


class NoWorkers(Exception):
    """A worker could not start and no other one serves; the message says how it ended."""


class Supervisor:
    """Starts workers, replaces those that end or hang, and hands on what the process is told by signals."""

    def __init__(
        self,
        command: Sequence[str],
        folder: Path,
        *,
        workers: int,
        hung_after_s: float = _HUNG_AFTER_S,
        clock: Clock = time.monotonic,
    ) -> None:
        """*command* starts a worker, with `--seat FOLDER/NUMBER` after it; they count in *folder*, empty so far.

        A worker writes to its stdout at least every *hung_after_s* seconds, from when it serves to its end.
        """
        self._workers = [_Worker(command, Seat(folder, number), hung_after_s) for number in range(workers)]
        self._clock = clock

    async def run(self, stop: asyncio.Event, started: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Keeps workers running until *stop* is set, and returns when they have drained; *started*, once all serve.

        Raises `NoWorkers`, with nothing left running.
        """
        try:
            async with asyncio.TaskGroup() as group:
                # The first one alone, so that what keeps all of them from starting is tried, and told, once.
                for wave in (self._workers[:1], self._workers[1:]):
                    for worker in wave:
                        group.create_task(self._keep(worker, stop))
                    for worker in wave:
                        await _either(worker.serving, stop)
                if not stop.is_set():
                    await started()
                await stop.wait()
                for worker in self._workers:
                    worker.send(signal.SIGTERM)
        except ExceptionGroup as group_of_one:
            raise group_of_one.exceptions[0] from None

    def reload(self) -> None:
        """Has every worker read the settings again."""
        for worker in self._workers:
            worker.reload()

    async def _keep(self, worker: _Worker, stop: asyncio.Event) -> None:
        wait_s = _FIRST_WAIT_S
        while not stop.is_set():
            began = self._clock()
            how = await worker.live(stop)
            number = worker.seat.number
            if stop.is_set():
                _log.info("worker_ended", worker=number, how=how)
                return
            if not worker.has_served and not any(each.serving.is_set() for each in self._workers):
                raise NoWorkers(f"worker {number} {how} before it served, and no other one serves")
            if self._clock() - began >= _GOOD_WHILE_S:
                wait_s = _FIRST_WAIT_S
            _log.error("worker_ended", worker=number, how=how, replaced_in_s=wait_s)
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await stop.wait()
            wait_s = min(wait_s * 2, _LONGEST_WAIT_S)


class _Worker:
    """One seat, and the process that has it now."""

    def __init__(self, command: Sequence[str], seat: Seat, hung_after_s: float) -> None:
        self.seat = seat
        # Set while the process serves.
        self.serving = asyncio.Event()
        # Whether the latest process ever did.
        self.has_served = False
        self._command = (*command, "--seat", str(seat.folder / str(seat.number)))
        self._hung_after_s = hung_after_s
        self._process: asyncio.subprocess.Process | None = None
        self._must_reload = False

    async def live(self, stop: asyncio.Event) -> str:
        """Runs one process to its end, which comes soon when *stop* is set, and tells how that was."""
        self.has_served = self._must_reload = False
        self._process = process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            # A Ctrl-C in the terminal is for the supervisor, which hands it on once.
            start_new_session=True,
        )
        hangs = False
        try:
            if stop.is_set():
                self.send(signal.SIGTERM)
            hangs = not await self._watch(process)
        finally:
            self.serving.clear()
            self.send(signal.SIGKILL)
            await process.wait()
            self.seat.leave()
        code = process.returncode
        return "hung" if hangs else f"ended with status {code}"

    async def _watch(self, process: asyncio.subprocess.Process) -> bool:
        """Returns whether the process went on giving signs of life until its end."""
        assert process.stdout  # noqa: S101  it is a pipe
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(_STARTING_S) as until:
                while await process.stdout.read(4096):
                    until.reschedule(loop.time() + self._hung_after_s)
                    self.serving.set()
                    self.has_served = True
                    if self._must_reload:
                        self.reload()
                until.reschedule(loop.time() + self._hung_after_s)
                await process.wait()
        except TimeoutError:
            return False
        return True

    def reload(self) -> None:
        """Has it read the settings again, once it can take that signal."""
        self._must_reload = not self.serving.is_set()
        if self.serving.is_set():
            self.send(signal.SIGHUP)

    def send(self, number: signal.Signals) -> None:
        """Sends a signal to the process, if it still runs."""
        if self._process and self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.send_signal(number)


async def _either(*events: asyncio.Event) -> None:
    waits = [asyncio.create_task(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()


@contextmanager
def reserved(address: str) -> Generator[str]:
    """Holds *address*, HOST:PORT, for workers that share its port, and gives it with that port where it was 0.

    Nobody else gets it meanwhile, not even a second supervisor. Raises OSError when it cannot be had.
    """
    host, _, port = address.rpartition(":")
    plain = host.removeprefix("[").removesuffix("]")
    with socket.socket(socket.AF_INET6 if ":" in plain else socket.AF_INET) as guard:
        # Connections of before that linger must not stand in the way, but anybody who holds the port does.
        guard.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            guard.bind((plain, int(port)))
        except OSError as exc:
            raise OSError(f"cannot listen on {address}: {exc.strerror}") from None
        # From here on it lets in whoever shares too, which a supervisor's own attempt to bind does not.
        guard.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        guard.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        yield f"{host}:{guard.getsockname()[1]}"


async def beat(stop: asyncio.Event, to: int, every_s: float = BEAT_S) -> None:
    """Gives signs of life on the descriptor *to*, forever; sets *stop* when the supervisor is no more."""
    os.set_blocking(to, False)
    while True:
        try:
            os.write(to, b".")
        except BlockingIOError:
            pass  # It is stopped just now, and will find enough of them.
        except OSError:
            stop.set()
            return
        await asyncio.sleep(every_s)
