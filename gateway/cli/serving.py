"""Starts the gateway, alone or with a Triton of its own, and checks its settings."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeAlias

import typer

from gateway.cli import output

if TYPE_CHECKING:
    from gateway.app import Addresses
    from gateway.settings import Settings
    from gateway.tritonserver import EmbeddedTriton

# glibc otherwise maps and unmaps every buffer of an image above 128 KiB, which costs more than all the work on it.
# MALLOC_MMAP_THRESHOLD_ and MALLOC_TRIM_THRESHOLD_ are read when a process starts: mallopt(3).
_MALLOC = {"MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(256 << 20)}

_Settings: TypeAlias = Annotated[Path | None, typer.Option("--settings", help="TOML file; see docs/settings.md.")]
_Grpc: TypeAlias = Annotated[str | None, typer.Option(help="HOST:PORT of the gRPC port; port 0 takes a free one.")]
_Http: TypeAlias = Annotated[str | None, typer.Option(help="HOST:PORT of metrics and health.")]
_Log: TypeAlias = Annotated[str | None, typer.Option(help="json or console.")]


class CannotStart(Exception):
    """Something that an operator can mend keeps the program from starting; *lines* say what."""

    def __init__(self, *lines: str) -> None:
        """At least one of *lines*."""
        super().__init__("\n".join(lines))
        self.lines = lines


def up(
    settings: _Settings = None,
    grpc_address: _Grpc = None,
    http_address: _Http = None,
    log_format: _Log = None,
    no_demo: Annotated[bool, typer.Option("--no-demo", help="Sends no photograph.")] = False,  # noqa: FBT002
) -> None:
    """Starts Triton with the CPU model and the gateway in front of it, and shows what they can do."""
    _with_malloc_settings()
    from gateway.tritonserver import TritonFailed, TritonUnavailable  # noqa: PLC0415  `--help` should not wait

    given = _server(grpc_address, http_address, log_format, log_level="WARNING")
    try:
        _run(lambda stop: _up(settings, given, stop, demo=not no_demo))
    except (TritonUnavailable, TritonFailed) as exc:
        raise CannotStart(str(exc)) from None


def serve(
    settings: _Settings = None,
    grpc_address: _Grpc = None,
    http_address: _Http = None,
    log_format: _Log = None,
) -> None:
    """Starts the gateway in front of the models of the settings."""
    _with_malloc_settings()
    given = _server(grpc_address, http_address, log_format)
    _run(lambda stop: _serve(_load(settings, server=given), stop, _say_where))


def triton() -> None:
    """Starts Triton with the CPU model alone, for a gateway elsewhere."""
    from gateway.tritonserver import TritonFailed, TritonUnavailable  # noqa: PLC0415  `--help` should not wait

    async def run(stop: asyncio.Event) -> None:
        async with _embedded_triton() as started:
            output.console.print(f"Triton: gRPC {started.grpc_address}, metrics {started.metrics_url}", highlight=False)
            await stop.wait()

    try:
        _run(run)
    except (TritonUnavailable, TritonFailed) as exc:
        raise CannotStart(str(exc)) from None


def check_settings(file: Annotated[Path, typer.Argument(help="TOML file.")]) -> None:
    """Names every problem of a settings file at once; calls nobody."""
    from gateway import app  # noqa: PLC0415  `--help` should not wait

    settings = _load(file)
    if problems := app.check(settings):
        raise CannotStart(*problems)
    routes = "; ".join(f"{name}: {', '.join(order)}" for name, order in settings.all_routes.items())
    output.console.print(f"{file} is fine. Routes: {routes}", highlight=False)


def register(app: typer.Typer) -> None:
    """Adds the commands to *app*."""
    for command in (up, serve, triton, check_settings):
        app.command()(command)


async def _up(path: Path | None, server: dict[str, str], stop: asyncio.Event, *, demo: bool) -> None:
    async with _embedded_triton() as started:
        models: dict[str, dict[str, str]] = {
            "embedded": {
                "kind": "triton",
                "profile": "embedded",
                "address": started.grpc_address,
                "model": "embedded",
            }
        }
        if os.environ.get("OPENAI_API_KEY"):
            models["gpt-5.5"] = {"kind": "openai"}
        settings = _load(path, server=server, models=models)

        async def show(addresses: Addresses) -> None:
            if demo:
                from gateway.cli import demo as demonstration  # noqa: PLC0415  only where it is wanted

                await demonstration.show(addresses.grpc)
            await _say_where(addresses)
            output.console.print(
                f"  try it     {sys.argv[0]} caption PHOTO.jpg --address {addresses.grpc}\n"
                f"             grpcurl -plaintext {addresses.grpc} list\n"
                f"  models     {', '.join(settings.models)} (Triton's metrics: {started.metrics_url})\n"
                "  stop       Ctrl-C",
                highlight=False,
            )

        await _serve(settings, stop, show)


async def _serve(
    settings: Settings, stop: asyncio.Event, started: Callable[[Addresses], Coroutine[Any, Any, None]]
) -> None:
    from gateway import app  # noqa: PLC0415  `--help` should not wait
    from gateway.server import log  # noqa: PLC0415  likewise
    from gateway.settings import SettingsError  # noqa: PLC0415  likewise

    log.configure(settings.server.log_format, level=settings.server.log_level)
    asyncio.get_running_loop().set_exception_handler(log.on_loop_error)
    try:
        await app.run(settings, stop=stop, started=started)
    except SettingsError as exc:
        raise CannotStart(*exc.problems) from None


async def _say_where(addresses: Addresses) -> None:
    http = f"http://{addresses.http}"
    output.console.print(
        "Vision Gateway is serving.\n"
        f"  gRPC       {addresses.grpc}\n"
        f"  metrics    {http}/metrics\n"
        f"  ready?     {http}/readyz",
        highlight=False,
    )


def _embedded_triton() -> AbstractAsyncContextManager[EmbeddedTriton]:
    from gateway.tritonserver import embedded_triton  # noqa: PLC0415  `--help` should not wait

    said = 0

    def waiting(seconds: float) -> None:
        nonlocal said
        if seconds >= said * 5:
            said += 1
            output.console.print(f"Triton is loading the CPU model ... {seconds:.0f} s", style="dim", highlight=False)

    def on_exit(how: str) -> None:
        output.errors.print(f"{how} It is started again.", style="red", markup=False, highlight=False)

    return embedded_triton(supervise=True, waiting=waiting, on_exit=on_exit)


def _server(
    grpc_address: str | None, http_address: str | None, log_format: str | None, log_level: str | None = None
) -> dict[str, str]:
    """The settings of the server that the command line gives."""
    given = {
        "grpc_address": grpc_address,
        "http_address": http_address,
        "log_format": log_format,
        "log_level": log_level,
    }
    return {name: value for name, value in given.items() if value is not None}


def _load(path: Path | None, **given: Any) -> Settings:
    from gateway.settings import SettingsError, load  # noqa: PLC0415  `--help` should not wait

    try:
        return load(path, **given)
    except SettingsError as exc:
        raise CannotStart(*exc.problems) from None


def _run(work: Callable[[asyncio.Event], Coroutine[Any, Any, None]]) -> None:
    """Runs *work* until it is done; SIGINT and SIGTERM set the event it is given."""
    import uvloop  # noqa: PLC0415  `--help` should not wait

    async def run() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await work(stop)

    try:
        uvloop.run(run())
    except OSError as exc:
        raise CannotStart(str(exc)) from None


def _with_malloc_settings() -> None:
    """Starts this very command again with glibc's settings for big buffers, unless the operator has made some."""
    if sys.platform == "linux" and not any(name in os.environ for name in _MALLOC):
        _restart({**os.environ, **_MALLOC})


def _restart(environment: dict[str, str]) -> NoReturn:
    sys.stdout.flush()
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)  # noqa: S606  the same command
