"""Runs the program as a process should: memory settings, event loop, signals."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any, NoReturn

# glibc otherwise maps and unmaps every buffer of an image above 128 KiB, which costs more than all the work on it.
# MALLOC_MMAP_THRESHOLD_ and MALLOC_TRIM_THRESHOLD_ are read when a process starts: mallopt(3).
_MALLOC = {"MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(256 << 20)}


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


def run(work: Callable[[asyncio.Event], Coroutine[Any, Any, None]]) -> None:
    """Runs *work* until it is done. SIGINT and SIGTERM set the event it is given; a second SIGINT ends it at once."""
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


def with_malloc_settings() -> None:
    """Starts this very command again with glibc's settings for big buffers, unless the operator has made some."""
    if sys.platform == "linux" and not any(name in os.environ for name in _MALLOC):
        _restart({**os.environ, **_MALLOC})


def _restart(environment: dict[str, str]) -> NoReturn:
    sys.stdout.flush()
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)  # noqa: S606  the same command
