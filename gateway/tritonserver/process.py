"""One tritonserver process."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import sys
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gateway.domain import Clock
    from gateway.tritonserver.installation import Layout

_EXIT_TIMEOUT_S = 5
_LOG_TAIL_LINES = 12
_LOG_TAIL_WIDTH = 400
_LOG_LINE_BYTES = 1 << 20
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - where Triton's Python backend keeps its regions
# The kernel cuts a process's name to 15 characters.
_STUB_NAME = "triton_python_backend_stub"[:15]
# What only an operator of Triton would call.
_RESTRICTED = "model-repository,shared-memory,trace,logging"


class TritonFailed(RuntimeError):
    """Triton was started and failed; the message ends with the last lines of its log."""


@dataclass(frozen=True, slots=True)
class Ports:
    """Where on 127.0.0.1 one Triton listens."""

    grpc: int
    http: int
    metrics: int


class Process:
    """A running tritonserver and the processes of its models."""

    def __init__(
        self, process: asyncio.subprocess.Process, ports: Ports, region: str, log: Callable[[str], None]
    ) -> None:
        """Use `start`."""
        self._process = process
        self._ports = ports
        self._region = region
        self._log = log
        self._tail: deque[str] = deque(maxlen=_LOG_TAIL_LINES)
        # Descriptors of the processes of its models, once they are ready.
        self._stubs: list[int] = []
        self._reading = asyncio.create_task(self._read_log())

    @classmethod
    async def start(cls, layout: Layout, ports: Ports, log: Callable[[str], None]) -> Process:
        """Starts a tritonserver that ends when this process does; *log* gets each line it writes."""
        region = f"vision_gateway_{secrets.token_hex(8)}_"
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", str(Path(__file__).with_name("_tied.py")), str(os.getpid())),
            *(str(layout.server), *_arguments(layout, ports, region)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            cwd=layout.repository,
            env=layout.environment,
            limit=_LOG_LINE_BYTES,
            # A Ctrl-C in the terminal is for the gateway, which drains before it stops Triton.
            start_new_session=True,
        )
        return cls(process, ports, region, log)

    @property
    def pid(self) -> int:
        """Process id of tritonserver."""
        return self._process.pid

    async def until_ready(
        self, models: tuple[str, ...], *, timeout_s: float, clock: Clock, waiting: Callable[[float], None]
    ) -> None:
        """Returns when all *models* are ready; *waiting* is told again and again how many seconds it has taken.

        Raises `TritonFailed` when Triton ends, or is not ready within *timeout_s* seconds.
        """
        started = clock()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{self._ports.grpc}", _CHANNEL_OPTIONS) as channel:
            server = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            while not await _ready(server, models):
                if self._process.returncode is not None:
                    await asyncio.wait([self._reading])
                    raise self._failed(f"it ended with status {self._process.returncode} before it was ready")
                if clock() - started > timeout_s:
                    raise self._failed(f"it was not ready within {timeout_s:g} s")
                waiting(clock() - started)
                await asyncio.sleep(0.1)
        for pid in _stubs_of(self.pid):
            with suppress(ProcessLookupError):
                self._stubs.append(os.pidfd_open(pid))

    async def until_dead(self) -> str:
        """Returns how it ended, once tritonserver or the process of one of its models has.

        Triton 24.10 goes on to call a model ready whose process has died, and does not start it anew.
        """
        stub_died = asyncio.Event()
        loop = asyncio.get_running_loop()
        for stub in self._stubs:
            loop.add_reader(stub, stub_died.set)
        waits = [asyncio.create_task(self._process.wait()), asyncio.create_task(stub_died.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            for stub in self._stubs:
                loop.remove_reader(stub)
        if self._process.returncode is None:
            return "the process of a model died"
        return f"it ended with status {self._process.returncode}"

    async def stop(self, *, gently: bool = True) -> None:
        """Ends it, gently at first by default; returns when nothing of it is left."""
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGTERM if gently else signal.SIGKILL)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._process.wait(), _EXIT_TIMEOUT_S + 2)
        if self._process.returncode is None:
            os.killpg(self.pid, signal.SIGKILL)
            await self._process.wait()
        while self._stubs:
            # After a sudden death of tritonserver they hold on for a minute and more, or for ever.
            stub = self._stubs.pop()
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(stub, signal.SIGKILL)
            os.close(stub)
        # Unlike `await`, this leaves the reading alone when the stop itself is cancelled.
        await asyncio.wait([self._reading])
        _remove_shared_memory(self._region)

    async def _read_log(self) -> None:
        lines = self._process.stdout
        assert lines is not None  # noqa: S101 - it is a pipe
        while True:
            try:
                line = await lines.readline()
            except ValueError:  # Longer than the limit.
                continue
            if not line:
                return
            text = line.decode(errors="replace").rstrip()
            self._log(text)
            # Tables say again, at length, what was logged before.
            if text and not text.startswith(("|", "+")):
                self._tail.append(text[:_LOG_TAIL_WIDTH])

    def _failed(self, how: str) -> TritonFailed:
        return TritonFailed("\n".join([f"Triton failed: {how}. The end of its log:", *self._tail]))


_CHANNEL_OPTIONS = (
    ("grpc.enable_http_proxy", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 200),
)


async def _ready(server: service_pb2_grpc.GRPCInferenceServiceStub, models: tuple[str, ...]) -> bool:
    try:
        answers = [await server.ModelReady(service_pb2.ModelReadyRequest(name=name), timeout=2) for name in models]
    except grpc.aio.AioRpcError:
        return False
    return all(answer.ready for answer in answers)


def _stubs_of(server: int) -> Iterator[int]:
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            # Fields are `pid (name) state parent ...`, and a name may hold blanks.
            head, _, tail = status.read_text().rpartition(")")
            pid, _, name = head.partition(" (")
            if name == _STUB_NAME and int(tail.split()[1]) == server:
                yield int(pid)


def _remove_shared_memory(region: str) -> None:
    # A tritonserver that was killed leaves it.
    for left in _SHARED_MEMORY.glob(f"{region}*"):
        left.unlink(missing_ok=True)


def _arguments(layout: Layout, ports: Ports, region: str) -> list[str]:
    nobodys_key = f"{_RESTRICTED}:vision-gateway={secrets.token_hex(16)}"
    return [
        f"--model-repository={layout.repository}",
        f"--backend-directory={layout.backends}",
        f"--backend-config=python,shm-region-prefix-name={region}",
        "--disable-auto-complete-config",
        f"--exit-timeout-secs={_EXIT_TIMEOUT_S}",
        "--grpc-address=127.0.0.1",
        f"--grpc-port={ports.grpc}",
        "--http-address=127.0.0.1",
        f"--http-port={ports.http}",
        "--metrics-address=127.0.0.1",
        f"--metrics-port={ports.metrics}",
        "--allow-gpu-metrics=false",
        "--pinned-memory-pool-byte-size=0",
        f"--grpc-restricted-protocol={nobodys_key}",
        f"--http-restricted-api={nobodys_key}",
        # Lets clients notice a dead connection sooner than after five minutes.
        "--grpc-http2-min-recv-ping-interval-without-data=5000",
        "--grpc-keepalive-permit-without-calls=1",
    ]
