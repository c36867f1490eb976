"""A decode worker as the gateway sees it: a process that does one job at a time and can be killed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from asyncio.subprocess import PIPE
from pathlib import Path
from typing import TYPE_CHECKING, Self, cast

from gateway.imaging.frames import PREFIX, READY, Job, Reply

if TYPE_CHECKING:
    from asyncio import StreamReader, StreamWriter
    from asyncio.subprocess import Process
    from collections.abc import Sequence

_BUFFER_BYTES = 1 << 20
# Or else glibc keeps the last picture's memory: 70 MB at rest in place of 20.
_MEMORY = {"MALLOC_TRIM_THRESHOLD_": str(4 << 20)}
# No picture that was asked for is larger; a longer reply comes from a worker that was taken over.
_MAX_REPLY_BYTES = 1 << 28


class WorkerDied(Exception):
    """A worker ended, or stopped making sense, before it answered."""


class Worker:
    """One process. Whoever starts it kills it."""

    def __init__(self, process: Process) -> None:
        """*process* has pipes for stdin and stdout."""
        self._process = process
        self._stdin = cast("StreamWriter", process.stdin)
        self._stdout = cast("StreamReader", process.stdout)
        self.jobs_done = 0

    @classmethod
    async def start(cls, command: Sequence[str]) -> Self:
        """Starts *command*, which is not ready yet; raises OSError."""
        return cls(
            await asyncio.create_subprocess_exec(
                *command, stdin=PIPE, stdout=PIPE, env=_environment(), limit=_BUFFER_BYTES
            )
        )

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    async def ready(self) -> None:
        """Waits until the worker takes jobs; raises `WorkerDied`."""
        if await self._read(len(READY)) != READY:
            raise WorkerDied

    async def run(self, job: Job, data: bytes) -> tuple[Reply, bytes]:
        """Has *job* done on *data*; raises `WorkerDied`."""
        header = job.header()
        self._stdin.write(PREFIX.pack(len(header), len(data)) + header)
        self._stdin.write(data)
        # A worker that dies closes its stdout too, where it is noticed.
        with contextlib.suppress(ConnectionError):
            await self._stdin.drain()
        header_bytes, picture_bytes = PREFIX.unpack(await self._read(PREFIX.size))
        if header_bytes + picture_bytes > _MAX_REPLY_BYTES:
            raise WorkerDied
        try:
            reply = Reply.read(await self._read(header_bytes))
        except (ValueError, TypeError) as exc:
            raise WorkerDied from exc
        picture = await self._read(picture_bytes)
        self.jobs_done += 1
        return reply, picture

    def kill(self) -> None:
        """Ends the process at once."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        self._stdin.close()

    async def gone(self) -> None:
        """Waits until the process has ended."""
        await self._process.wait()

    async def _read(self, size: int) -> bytes:
        try:
            return await self._stdout.readexactly(size)
        except (asyncio.IncompleteReadError, ConnectionError) as exc:
            raise WorkerDied from exc


def _environment() -> dict[str, str]:
    """Gives what a worker needs and nothing else: who decodes strangers' bytes gets no secrets."""
    environment = {"PYTHONPATH": os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path), **_MEMORY}
    if "LD_LIBRARY_PATH" in os.environ:
        environment["LD_LIBRARY_PATH"] = os.environ["LD_LIBRARY_PATH"]
    return environment
