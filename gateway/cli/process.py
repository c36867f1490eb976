"""Runs the program as a process should: event loop and signals."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any


class CannotStart(Exception):
    """Something that an operator can mend keeps the program from starting; *lines* say what."""

    def __init__(self, *lines: str) -> None:
        """At least one of *lines*."""
        super().__init__("\n".join(lines))
        self.lines = lines


class Stopped(Exception):
    """The program was told to end before it was done starting."""


@asynccontextmanager
async def unless(stop: asyncio.Event) -> AsyncGenerator[None]:
    """Cuts its body short, and raises `Stopped`, when *stop* is set."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(None) as scope:
            watch = asyncio.create_task(stop.wait())
            watch.add_done_callback(lambda done: None if done.cancelled() else scope.reschedule(loop.time()))
            try:
                yield
            finally:
                watch.cancel()
    except TimeoutError:
        if scope.expired():
            raise Stopped from None
        raise


def on_hangup(stop: asyncio.Event, otherwise: Callable[[], None]) -> Callable[[], None]:
    """Gives what is to be done on SIGHUP: *otherwise*, but *stop* is set when the program's terminal was closed."""
    # Who starts it with nohup has it outlive its terminal, and has SIGHUP ignored to say so.
    minds_terminal = signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN and _has_terminal()

    def hung_up() -> None:
        if minds_terminal and not _has_terminal():
            stop.set()
        else:
            otherwise()

    return hung_up


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True


def run(work: Callable[[asyncio.Event], Coroutine[Any, Any, None]]) -> None:
    """Runs *work* until it is done. SIGINT and SIGTERM set the event it is given; a second SIGINT ends it at once."""
    # We start programs and never fork to go on ourselves; gRPC would otherwise say on each start that it cannot follow.
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    # Else it writes a line of its own among those of the log for each stranger whose handshake fails.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    import uvloop  # noqa: PLC0415  `--help` should not wait

    async def main() -> None:
        loop, stop = asyncio.get_running_loop(), asyncio.Event()

        def end() -> None:
            stop.set()
            loop.remove_signal_handler(signal.SIGINT)

        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, end)
        with suppress(Stopped):
            await work(stop)

    try:
        uvloop.run(main())
    except OSError as exc:
        raise CannotStart(str(exc)) from None
