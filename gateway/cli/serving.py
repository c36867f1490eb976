"""Starts the gateway, alone or with a Triton of its own, and checks its settings."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import typer

from gateway.cli import checking, door, output, process, routes, workers

if TYPE_CHECKING:
    from gateway.app import Addresses
    from gateway.settings import Settings
    from gateway.tritonserver import EmbeddedTriton

_Settings: TypeAlias = Annotated[Path | None, typer.Option("--settings", help="TOML file; see docs/settings.md.")]
_Grpc: TypeAlias = Annotated[str | None, typer.Option(help="HOST:PORT of the gRPC port; port 0 takes a free one.")]
_Http: TypeAlias = Annotated[str | None, typer.Option(help="HOST:PORT of metrics and health.")]
_Format: TypeAlias = Annotated[Literal["json", "console"] | None, typer.Option(help="Form of the log lines.")]
_Level: TypeAlias = Literal["DEBUG", "INFO", "WARNING", "ERROR"]


def _ignore(_: str) -> None:
    pass


def up(
    *,
    settings: _Settings = None,
    grpc_address: _Grpc = None,
    http_address: _Http = None,
    log_format: _Format = None,
    log_level: Annotated[_Level, typer.Option(help="Least level of the log lines.")] = "WARNING",
    no_demo: Annotated[
        bool, typer.Option("--no-demo", help="Sends no photograph; with TLS none is sent either.")
    ] = False,
) -> None:
    """Starts Triton with the CPU model and the gateway in front of it, and shows what they can do.

    The model is called `embedded`. `gpt-5.5` joins when OPENAI_API_KEY is set, and so do the models of --settings,
    which are asked first. Ends when it gets SIGINT (Ctrl-C) or SIGTERM, once the calls in flight are answered.
    """
    given = _server(grpc_address=grpc_address, http_address=http_address, log_format=log_format, log_level=log_level)
    process.run(lambda stop: _up(settings, given, stop, demo=not no_demo))


def serve(
    *,
    settings: _Settings = None,
    grpc_address: _Grpc = None,
    http_address: _Http = None,
    log_format: _Format = None,
    log_level: Annotated[_Level | None, typer.Option(help="Least level of the log lines.")] = None,
    seat: Annotated[Path | None, typer.Option(hidden=True)] = None,
) -> None:
    """Starts the gateway in front of the models of the settings; with `workers` under `server`, several share ports.

    Ends when it gets SIGINT (Ctrl-C) or SIGTERM, once the calls in flight are answered. Logs to standard error.
    """
    given = _server(grpc_address=grpc_address, http_address=http_address, log_format=log_format, log_level=log_level)
    read = partial(_read, settings, server=given)
    if seat:
        process.run(lambda stop: workers.work(stop, partial(_serve, read, settings, stop, seat=seat)))
    elif several := workers.wanted(settings, given):
        process.run(
            lambda stop: workers.supervise(several, settings, given, stop, partial(_say_where, https=several.https))
        )
    else:
        process.run(lambda stop: _serve(read, settings, stop, _say))


def triton(context: typer.Context) -> None:
    """Starts Triton with the CPU model alone, for a gateway of its own on this machine; its log goes to standard error.

    Ends when it gets SIGINT (Ctrl-C) or SIGTERM. With `check`, looks at a Triton that runs, such as one with Gemma 4.
    """
    if context.invoked_subcommand:
        return

    async def run(stop: asyncio.Event) -> None:
        async with _embedded_triton(stop, log=output.log) as started:
            table = _embedded_model(started.grpc_address)
            output.say("Triton serves the CPU model. For the settings of a gateway:\n\n[models.embedded]")
            output.say("\n".join(f"{name} = {json.dumps(value)}" for name, value in table.items()))
            output.say(f"\nTriton's metrics: {started.metrics_url}")
            await stop.wait()

    process.run(run)


def check_settings(file: Annotated[Path, typer.Argument(help="TOML file.")]) -> None:
    """Names every problem of a settings file at once, or how its routes choose; calls nobody."""
    settings = load_settings(file)
    lines = (f"  {routes.line(name, route)}" for name, route in settings.all_routes.items())
    output.say("\n".join([f"{file} is fine. Routes:", *lines]))


def register(app: typer.Typer) -> None:
    """Adds the commands to *app*."""
    for command in (up, serve, check_settings):
        app.command()(command)
    group = typer.Typer()
    group.callback(invoke_without_command=True)(triton)
    group.command()(checking.check)
    app.add_typer(group, name="triton")


async def _up(path: Path | None, server: dict[str, str], stop: asyncio.Event, *, demo: bool) -> None:
    def with_embedded(address: str) -> Settings:
        models = {"embedded": _embedded_model(address)}
        if os.environ.get("OPENAI_API_KEY"):
            models["gpt-5.5"] = {"kind": "openai"}
        return _read(path, server=server, models=models)

    with _explained():
        with_embedded("127.0.0.1:0")  # What is wrong with them is told before Triton takes its time.
    async with _embedded_triton(stop) as started:
        read = partial(with_embedded, started.grpc_address)

        with _explained():
            settings = read()

        async def show(addresses: Addresses) -> None:
            # Nobody gave what it would trust the gateway's certificate by, nor one that it could show.
            if demo and not settings.server.tls:
                from gateway.cli import demo as demonstration  # noqa: PLC0415  only where it is wanted

                with suppress(process.Stopped):
                    async with process.unless(stop):
                        await demonstration.show(addresses.grpc)
            await _say(addresses)
            ours, theirs = door.ways_in(sys.argv[0], addresses.grpc, settings.server.tls)
            output.say(
                f"  try it     {ours}\n"
                f"             {theirs}\n"
                f"  models     {', '.join(settings.models)} (Triton's metrics: {started.metrics_url})\n"
                "  stop       Ctrl-C"
            )

        await _serve(read, path, stop, show)


def _embedded_model(address: str) -> dict[str, str | int]:
    # It takes no more at once (triton_repo/embedded/config.pbtxt).
    most = 32
    return {"kind": "triton", "profile": "embedded", "address": address, "model": "embedded", "max_inflight": most}


async def _serve(
    read: Callable[[], Settings],
    path: Path | None,
    stop: asyncio.Event,
    started: Callable[[Addresses], Coroutine[Any, Any, None]],
    seat: Path | None = None,
) -> None:
    """Serves what *read* gives, and what it gives later on SIGHUP or when the file at *path* changes.

    A worker has a *seat*, `FOLDER/NUMBER`.
    """
    from gateway import app  # noqa: PLC0415  `--help` should not wait
    from gateway.metrics.seat import Seat  # noqa: PLC0415  likewise
    from gateway.server import log  # noqa: PLC0415  likewise

    # What is wrong with them, and what only shows when it is tried, such as a ledger that cannot be opened.
    with _explained():
        source = app.Source(read, path)
        settings = source.load()
        loop = asyncio.get_running_loop()
        if settings.server.reload != "off":
            loop.add_signal_handler(signal.SIGHUP, process.on_hangup(stop, source.asked.set))
        worker = Seat(seat.parent, int(seat.name)) if seat else None
        number = worker.number if worker else None
        log.configure(settings.server.log_format, level=settings.server.log_level, worker=number)
        loop.set_exception_handler(log.on_loop_error)
        await app.run(settings, stop=stop, started=started, source=source, seat=worker)


async def _say(where: Addresses) -> None:
    await _say_where(where.grpc, where.http, https=where.https)


async def _say_where(grpc: str, http: str, *, https: bool) -> None:
    http = f"{'https' if https else 'http'}://{http}"
    output.say(
        f"Vision Gateway is serving.\n  gRPC       {grpc}\n  metrics    {http}/metrics\n  ready?     {http}/readyz"
    )


@asynccontextmanager
async def _embedded_triton(stop: asyncio.Event, log: Callable[[str], None] = _ignore) -> AsyncGenerator[EmbeddedTriton]:
    """Runs Triton, and says how it is going; ends the program when *stop* is set before it is ready."""
    from gateway.tritonserver import (  # noqa: PLC0415  `--help` should not wait
        TritonFailed,
        TritonUnavailable,
        embedded_triton,
    )

    said = 0

    def waiting(seconds: float) -> None:
        nonlocal said
        if seconds >= said * 5:
            said += 1
            output.say(f"Triton is loading the CPU model ... {seconds:.0f} s", style="dim")

    def on_exit(how: str) -> None:
        output.complain(f"Triton: {how}; it is started again")

    async with AsyncExitStack() as stack:
        try:
            async with process.unless(stop):
                triton = embedded_triton(supervise=True, log=log, waiting=waiting, on_exit=on_exit)
                started = await stack.enter_async_context(triton)
        except (TritonUnavailable, TritonFailed) as exc:
            raise process.CannotStart(str(exc)) from None
        yield started


def _server(**given: str | None) -> dict[str, str]:
    """The settings of the server that the command line gives."""
    return {name: value for name, value in given.items() if value is not None}


def load_settings(path: Path | None, **given: Any) -> Settings:
    """Reads the settings, and names every problem of theirs and of their models' at once."""
    with _explained():
        return _read(path, **given)


def _read(path: Path | None, **given: Any) -> Settings:
    from gateway import app  # noqa: PLC0415  `--help` should not wait

    return app.read(path, **given)


@contextmanager
def _explained() -> Generator[None]:
    """Ends the program with what is wrong with the settings."""
    from gateway.settings import SettingsError  # noqa: PLC0415  `--help` should not wait

    try:
        yield
    except SettingsError as exc:
        raise process.CannotStart(*exc.problems) from None
