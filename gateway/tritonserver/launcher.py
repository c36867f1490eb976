"""Keeps a Triton running for as long as it is wanted."""

from __future__ import annotations

import asyncio
import socket
import time
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from gateway.tritonserver.installation import find, lay_out
from gateway.tritonserver.process import Ports, Process, TritonFailed

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from gateway.domain import Clock
    from gateway.tritonserver.installation import Layout

_TRIES_FOR_FREE_PORTS = 3
# Seconds before a Triton that died is started again: doubled each time, and back to the first after a good while.
_FIRST_WAIT_S = 0.5
_LONGEST_WAIT_S = 30.0
_GOOD_WHILE_S = 60.0


def _ignore(_: object) -> None:
    pass


def model_repository() -> Path:
    """Gives the model repository that comes with the gateway: in a wheel inside it, in a checkout beside it."""
    package = Path(__file__).parents[1]
    installed = package / "_triton_repo"
    return installed if installed.is_dir() else package.parent / "triton_repo"


class EmbeddedTriton:
    """A Triton of our own. Its addresses stay the same when it is started again."""

    def __init__(self, process: Process, ports: Ports) -> None:
        """Use `embedded_triton`."""
        self.process = process
        self.ports = ports

    @property
    def grpc_address(self) -> str:
        """HOST:PORT of Triton's gRPC service."""
        return f"127.0.0.1:{self.ports.grpc}"

    @property
    def http_address(self) -> str:
        """HOST:PORT of Triton's HTTP service."""
        return f"127.0.0.1:{self.ports.http}"

    @property
    def metrics_url(self) -> str:
        """Address of Triton's own Prometheus metrics."""
        return f"http://127.0.0.1:{self.ports.metrics}/metrics"

    @property
    def pid(self) -> int:
        """Process id of tritonserver."""
        return self.process.pid


@asynccontextmanager
async def embedded_triton(  # noqa: PLR0913 - keywords with defaults; the launcher is also used alone
    *,
    repository: Path | None = None,
    models: tuple[str, ...] = ("embedded",),
    ports: Ports | None = None,
    supervise: bool = False,
    ready_timeout_s: float = 120.0,
    log: Callable[[str], None] = _ignore,
    waiting: Callable[[float], None] = _ignore,
    on_exit: Callable[[str], None] = _ignore,
    clock: Clock = time.monotonic,
) -> AsyncGenerator[EmbeddedTriton]:
    """Runs a Triton on 127.0.0.1 with *models* of *repository* (our own by default), ready once the context is entered.

    *ports* are free ones by default. *log* gets each line that Triton writes; *waiting*, again and again, the seconds
    that its start has taken. With *supervise*, a Triton that dies, or one of whose models does, is started again, after
    waits that grow from half a second to half a minute; *on_exit* is told each time how it ended. It ends with the
    context, and with this process however that ends.

    Raises `TritonUnavailable` when Triton cannot run here, `TritonFailed` when it ends or is not ready within
    *ready_timeout_s* seconds, and FileNotFoundError when *repository* lacks one of *models*.
    """
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="vision-gateway-triton-")))
        layout = await asyncio.to_thread(_prepare, folder, repository or model_repository(), models)
        launcher = _Launcher(layout, models, ready_timeout_s, log, waiting, clock)
        triton = await launcher.launch(ports)
        stack.push_async_callback(_stop, triton)
        if supervise:
            supervision = asyncio.create_task(launcher.supervise(triton, on_exit))
            stack.push_async_callback(_cancel, supervision)
        yield triton


@dataclass(frozen=True, slots=True)
class _Launcher:
    layout: Layout
    models: tuple[str, ...]
    ready_timeout_s: float
    log: Callable[[str], None]
    waiting: Callable[[float], None]
    clock: Clock

    async def launch(self, ports: Ports | None) -> EmbeddedTriton:
        if ports is not None:
            return EmbeddedTriton(await self._start(ports), ports)
        for tries_left in reversed(range(_TRIES_FOR_FREE_PORTS)):
            ports = _free_ports()
            try:
                return EmbeddedTriton(await self._start(ports), ports)
            except TritonFailed as error:
                # Somebody else was quicker.
                if "already in use" not in str(error) or not tries_left:
                    raise
        raise AssertionError

    async def supervise(self, triton: EmbeddedTriton, on_exit: Callable[[str], None]) -> None:
        wait_s = _FIRST_WAIT_S
        while True:
            started = self.clock()
            on_exit(await triton.process.until_dead())
            if self.clock() - started >= _GOOD_WHILE_S:
                wait_s = _FIRST_WAIT_S
            # With its model dead it has nothing to finish: calls would hang until their deadlines.
            await triton.process.stop(gently=False)
            while True:
                await asyncio.sleep(wait_s)
                wait_s = min(wait_s * 2, _LONGEST_WAIT_S)
                try:
                    triton.process = await self._start(triton.ports)
                    break
                except TritonFailed as error:
                    on_exit(str(error))

    async def _start(self, ports: Ports) -> Process:
        process = await Process.start(self.layout, ports, self.log)
        try:
            await process.until_ready(
                self.models, timeout_s=self.ready_timeout_s, clock=self.clock, waiting=self.waiting
            )
        except BaseException:  # A cancel too: nothing of it may be left.
            await process.stop()
            raise
        return process


def _prepare(folder: Path, repository: Path, models: tuple[str, ...]) -> Layout:
    return lay_out(find(), folder, repository, models)


async def _stop(triton: EmbeddedTriton) -> None:
    await triton.process.stop()


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])


def _free_ports() -> Ports:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(3)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return Ports(*(each.getsockname()[1] for each in sockets))
