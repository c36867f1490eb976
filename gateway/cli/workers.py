"""Serves with several processes: what the one that was started does, and what each worker does."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, TypeAlias

from gateway.cli import process

if TYPE_CHECKING:
    from gateway.settings import ServerSettings

_Started: TypeAlias = Callable[[object], Coroutine[Any, Any, None]]


def wanted(path: Path | None, server: dict[str, str]) -> ServerSettings | None:
    """Gives the settings of a server that has several; None for one, and for wrong ones, as that one will tell."""
    from gateway.settings import SettingsError, load  # noqa: PLC0415  `--help` should not wait

    try:
        settings = load(path, server=server).server
    except SettingsError:
        return None
    return settings if settings.workers > 1 else None


async def supervise(
    server: ServerSettings,
    path: Path | None,
    given: dict[str, str],
    stop: asyncio.Event,
    started: Callable[[str, str], Coroutine[Any, Any, None]],
) -> None:
    """Keeps workers running until *stop* is set; *started* is told HOST:PORT of gRPC and HTTP, once all serve.

    The settings came from the file at *path* and from *given*, options of the command line, by name.
    """
    from gateway.server import log  # noqa: PLC0415  `--help` should not wait
    from gateway.supervisor import NoWorkers, Supervisor, reserved  # noqa: PLC0415  likewise

    log.configure(server.log_format, level=server.log_level)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="vision-gateway-workers-")))
        grpc_address = stack.enter_context(reserved(server.grpc_address))
        http_address = stack.enter_context(reserved(server.http_address))
        options = {**given, "grpc_address": grpc_address, "http_address": http_address}
        # Without the current folder among the places where modules are looked for, as it is for the console command.
        command = [sys.executable, "-P", "-m", "gateway.cli", "serve"]
        if path:
            options["settings"] = str(path)
        for name, value in options.items():
            command += [f"--{name.replace('_', '-')}", value]
        supervisor = Supervisor(command, folder, workers=server.workers)
        if server.reload != "off":
            hung_up = process.on_hangup(stop, supervisor.reload)
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, hung_up)
        try:
            await supervisor.run(stop, lambda: started(grpc_address, http_address))
        except NoWorkers as exc:
            raise process.CannotStart(str(exc)) from None


async def work(stop: asyncio.Event, serve: Callable[[_Started], Coroutine[Any, Any, None]]) -> None:
    """Has *serve* serve as a worker, and gives signs of life on what was standard output."""
    from gateway.supervisor import beat  # noqa: PLC0415  `--help` should not wait

    # What this process starts and prints must not be taken for it.
    signs = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    beating: list[asyncio.Task[None]] = []

    async def started(_: object) -> None:
        beating.append(asyncio.create_task(beat(stop, signs)))

    try:
        await serve(started)
    finally:
        for each in beating:
            each.cancel()
