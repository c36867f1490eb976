"""What becomes of calls when a real Triton is killed, frozen, changed under them, or started anew."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable

from tests.failover.scenario import Scenario, both, one_call
from tests.failover.stage import PRIMARY, Stage
from tests.failover.tritons import MODEL

_PATIENCE_S = 30
_ONE_CALL_S = 1.5
_SILENT_OR_GONE = ("DEADLINE_EXCEEDED", "UNAVAILABLE BACKEND_UNAVAILABLE, RetryInfo")


def _nothing(on_stage: Stage) -> None:
    on_stage.keeps_journal = False


async def _until_back(on_stage: Stage, meanwhile: str = "") -> str:
    """Asks until the first model answers again; until then each call ends as *meanwhile* says, if anything."""
    started = time.monotonic()
    async with asyncio.timeout(_PATIENCE_S):
        while (last := await on_stage.ask(timeout_s=_ONE_CALL_S)).model != PRIMARY:
            assert meanwhile in ("", str(last)), last
            await asyncio.sleep(0.05)
    on_stage.measured["back after"] = time.monotonic() - started
    return str(last)


def _story(
    harm: Callable[[Stage], Awaitable[None]],
    mend: Callable[[Stage], Awaitable[None]],
    *,
    either: tuple[str, ...] = (),
):
    """One call before, one in the midst, and calls after until all is well.

    *either* are outcomes of the one in the midst of which chance decides.
    """

    async def run(on_stage: Stage) -> str:
        before = await on_stage.ask(timeout_s=_PATIENCE_S)
        assert before.model == PRIMARY, before
        await harm(on_stage)
        try:
            harmed = await on_stage.ask()
        finally:
            await mend(on_stage)
        on_stage.measured["told after"] = harmed.seconds
        outcome = " or ".join(either) if str(harmed) in either else str(harmed)
        # Where a backup answered in the midst of it, nobody is told of anything afterwards either.
        back = await _until_back(on_stage, str(harmed) if harmed.code == "OK" else "")
        return f"{outcome}; mended: {back}"

    return run


async def _kill(on_stage: Stage) -> None:
    on_stage.triton.kill()


async def _start(on_stage: Stage) -> None:
    await on_stage.triton.start()


async def _kill_model(on_stage: Stage) -> None:
    for stub in on_stage.triton.stubs():
        os.kill(stub, signal.SIGKILL)


async def _unload(on_stage: Stage) -> None:
    await on_stage.triton.unload(MODEL)


async def _hang(on_stage: Stage) -> None:
    on_stage.triton.hang(hangs=True)


async def _go_on(on_stage: Stage) -> None:
    on_stage.triton.hang(hangs=False)


async def _load(on_stage: Stage) -> None:
    await on_stage.triton.load(MODEL)


async def _freeze_model(on_stage: Stage) -> None:
    for stub in on_stage.triton.stubs():
        os.kill(stub, signal.SIGSTOP)


async def _restart(on_stage: Stage) -> None:
    on_stage.triton.kill()
    await on_stage.triton.start()


def _signal_server(number: int):
    async def send(on_stage: Stage) -> None:
        on_stage.triton.signal(number)

    return send


async def _restart_under_calls(on_stage: Stage) -> str:
    told = []

    async def call() -> None:
        while not over.is_set():
            told.append(await on_stage.ask())
            await asyncio.sleep(0.02)

    over = asyncio.Event()
    callers = [asyncio.create_task(call()) for _ in range(4)]
    while len(told) < 8:  # noqa: ASYNC110  what the callers do, nobody else is told
        await asyncio.sleep(0.02)
    await asyncio.to_thread(on_stage.triton.end)
    await on_stage.triton.start()
    back = await _until_back(on_stage)
    over.set()
    await asyncio.gather(*callers)
    return f"{', '.join(sorted({str(each) for each in told}))}; mended: {back}"


def _on_triton(name: str, fault: str, run, **more: object) -> list[Scenario]:
    return both(name, fault, _nothing, run=run, **{"primary": "triton", **more})


SCENARIOS = [
    *_on_triton("killed server", "SIGKILL to tritonserver and its model; started again", _story(_kill, _start)),
    *_on_triton("killed model", "SIGKILL to the model's process; started again", _story(_kill_model, _restart)),
    *_on_triton(
        "hanging model",
        "the model's code waits; goes on",
        _story(_hang, _go_on),
        impatient=True,
    ),
    *_on_triton(
        "frozen model",
        "SIGSTOP to the model's process, of which Triton itself may die; started again",
        _story(_freeze_model, _restart, either=_SILENT_OR_GONE),
        impatient=True,
    ),
    *_on_triton(
        "hanging server",
        "SIGSTOP to tritonserver; SIGCONT",
        _story(_signal_server(signal.SIGSTOP), _signal_server(signal.SIGCONT)),
        impatient=True,
    ),
    *_on_triton("model unloaded while serving", "the repository API: unload; load", _story(_unload, _load)),
    *_on_triton("restart", "SIGTERM under 4 callers without a pause; started again", _restart_under_calls),
    *_on_triton("wrong contract", "an output of the model has another name", one_call, primary="stranger"),
]
