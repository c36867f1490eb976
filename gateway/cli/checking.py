"""Checks a model on a Triton: what its owner runs first, and pastes into an issue when something is amiss."""

from __future__ import annotations

import asyncio
import platform
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import gateway
from gateway.cli import output, process

if TYPE_CHECKING:
    from gateway.cli.probe import Server
    from gateway.pipeline import Pipeline
    from gateway.settings import Settings
    from gateway.tasks import AnyTask
    from gateway.usage import Usage

_PHOTOGRAPH = "chelsea.png"
# What is asked of the image, of every model family alike.
_FIELDS: Mapping[str, Mapping[str, Any]] = {
    "Caption": {},
    "OCR": {"with_regions": True},
    "Detect": {},
    "Classify": {},
    "VQA": {"question": "What is this?"},
}
_ROW = "{:<10}{:<22}{:>10}{:>13}{:>11}{:>12}{:>10}".format
# The model did answer, but not usably; every other failure is a fault of the service.
_NOT_USABLE = frozenset({"UNUSABLE_ANSWER", "TRUNCATED_ANSWER", "UNSUPPORTED_BY_MODEL", "REFUSED"})


def check(  # noqa: PLR0913  one parameter for each option
    *,
    address: Annotated[str, typer.Option(help="HOST:PORT of Triton's gRPC port.")] = "127.0.0.1:8001",
    model: Annotated[str, typer.Option(help="Name of the model at the server.")] = "gemma4",
    profile: Annotated[str, typer.Option(help="Its family: gemma4 or embedded.")] = "gemma4",
    wire: Annotated[str, typer.Option(help="What it speaks: v1, or llmapi for NVIDIA's stock repository.")] = "v1",
    image: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="What to show it; by default, a cat.")
    ] = None,
    concurrency: Annotated[int, typer.Option(min=1, max=1024, help="Captions to ask for at once.")] = 8,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds each call may take.")] = 120.0,
    max_output_tokens: Annotated[
        int | None, typer.Option(min=16, max=32768, help="Most tokens of each answer; by default, the task's own.")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Fails also when an answer cannot be used.")] = False,
) -> None:
    """Checks a model on a running Triton, and prints a report to paste into an issue.

    Asks whether server and model are ready and keep the wire contract, sends an image through all five tasks as the
    gateway would, then asks for several captions at once. The report holds no address, key or answer. Exits with 1 when
    something is not ready, breaks the contract, or fails.
    """
    from gateway import app  # noqa: PLC0415  `--help` should not wait
    from gateway.server import log  # noqa: PLC0415  likewise
    from gateway.settings import Settings  # noqa: PLC0415  likewise

    table = {"kind": "triton", "address": address, "model": model, "profile": profile, "wire": wire, "price": "free"}
    settings = Settings.model_validate({"models": {model: {**table, "max_inflight": max(concurrency, 64)}}})
    if problems := app.check(settings):
        raise process.CannotStart(*problems)
    log.configure("console", level="WARNING")
    photograph = image.read_bytes() if image else files("gateway").joinpath("demo", _PHOTOGRAPH).read_bytes()
    fine = False

    async def run(stop: asyncio.Event) -> None:
        nonlocal fine
        async with process.unless(stop):
            show = partial(_ask, photograph=photograph, timeout_s=timeout, max_output_tokens=max_output_tokens)
            fine = await _check(settings, show, concurrency=concurrency, strict=strict)

    process.run(run)
    if not fine:
        raise typer.Exit(1)


async def _check(
    settings: Settings, show: Callable[[Pipeline, AnyTask], Awaitable[_Call]], *, concurrency: int, strict: bool
) -> bool:
    from gateway import app  # noqa: PLC0415  `--help` should not wait
    from gateway.cli import probe  # noqa: PLC0415  likewise

    ((name, model),) = settings.models.items()
    server = await probe.look(model.options["address"], model.options["model"], model.options["wire"])
    if server is None:
        output.complain("No Triton answers there.")
        return False
    report = [*_about(server, name, model.profile or "")]
    calls: list[_Call] = []
    if server.fine:
        async with app.alone(settings, name) as (pipeline, tasks):
            for rpc in _FIELDS:
                calls.append(await show(pipeline, tasks[rpc]))
                output.say(f"{rpc}: {calls[-1].said}")
            started = time.monotonic()
            captions = [show(pipeline, tasks["Caption"]) for _ in range(concurrency)]
            at_once = await asyncio.gather(*captions)
        report += ["", *_table(calls), "", _together(at_once, time.monotonic() - started)]
        calls += at_once
    output.say("\n".join(["", "```", *report, "```"]))
    return server.fine and all(call.fine(strict=strict) for call in calls)


@dataclass(frozen=True, slots=True)
class _Call:
    """How one call went: *reason* is that of the error, empty when there was none; times are in seconds."""

    rpc: str
    reason: str
    said: str
    total_s: float
    upstream_s: float
    first_token_s: float | None
    usage: Usage

    def fine(self, *, strict: bool) -> bool:
        return not self.reason or (not strict and self.reason in _NOT_USABLE)


async def _ask(
    pipeline: Pipeline, task: AnyTask, *, photograph: bytes, timeout_s: float, max_output_tokens: int | None
) -> _Call:
    from gateway.domain import Options  # noqa: PLC0415  `--help` should not wait
    from gateway.errors import GatewayError  # noqa: PLC0415  `--help` should not wait
    from gateway.pipeline import Call  # noqa: PLC0415  likewise
    from gateway.usage import Usage  # noqa: PLC0415  likewise

    started = time.monotonic()
    options = Options(max_output_tokens=max_output_tokens)
    call = Call("", started + timeout_s, "triton-check", received_at=started, options=options)
    request = task.request(image={"data": photograph}, **_FIELDS[task.rpc])
    reason, first_token_s = "", None
    try:
        response = await pipeline.run(task, request, call)
    except GatewayError as exc:
        reason, said = exc.reason, f"{exc.reason}: {exc}"
    else:
        said = output.answer(task.rpc, response)
        if response.info.timing.HasField("time_to_first_token"):
            first_token_s = response.info.timing.time_to_first_token.ToNanoseconds() / 1e9
    usage = sum((attempt.usage for attempt in call.trace.attempts), Usage())
    total_s = time.monotonic() - started
    return _Call(task.rpc, reason, said, total_s, call.trace.upstream_s, first_token_s, usage)


def _about(server: Server, model: str, profile: str) -> list[str]:
    system = f"Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    lines = {
        "gateway": f"{gateway.__version__}, {system}",
        "server": server.name,
        "model": f"{model}, version {', '.join(server.model_versions) or '?'}, profile {profile}",
        "engine": server.engine or "?",
        "GPU, driver, image": "(please fill in)",
        "server live": _yes(server.live),
        "server ready": _yes(server.ready),
        "model ready": _yes(server.model_ready),
    }
    if server.differences is None:
        lines["wire contract"] = "unknown"
    else:
        lines["wire contract"] = f"broken: {'; '.join(server.differences)}" if server.differences else "kept"
    return [f"{name:<20}{what}" for name, what in lines.items()]


def _table(calls: list[_Call]) -> list[str]:
    """Gives a row for each of *calls*; a rate is output tokens over the whole time that the model took."""
    rows = [_ROW("task", "outcome", "latency", "first token", "tokens in", "tokens out", "tokens/s")]
    for call in calls:
        written = call.usage.output_total
        rows.append(
            _ROW(
                call.rpc,
                call.reason or "ok",
                _ms(call.total_s),
                "-" if call.first_token_s is None else _ms(call.first_token_s),
                call.usage.input_total or "-",
                written or "-",
                f"{written / call.upstream_s:.1f}" if written and call.upstream_s else "-",
            )
        )
    return rows


def _together(calls: list[_Call], seconds: float) -> str:
    written = sum(call.usage.output_total for call in calls)
    failed = [call.reason for call in calls if call.reason]
    line = f"{len(calls)} captions at once: {seconds:.2f} s, {len(calls) / seconds:.1f} a second"
    if written:
        line += f", {written / seconds:.1f} output tokens/s"
    return (
        f"{line}; {len(failed)} not answered ({', '.join(sorted(set(failed)))})" if failed else f"{line}; all answered"
    )


def _yes(flag: bool) -> str:  # noqa: FBT001  it is the value to show
    return "yes" if flag else "NO"


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"
