"""A scenario, how it is run, and the row of the table that comes out of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from itertools import groupby

from tests.failover.stage import BACKUP, BACKUP_AT_PROVIDER, PRIMARY, USAGE, Stage, Upstreams, stage

ALONE, WITH_BACKUP = (PRIMARY,), (PRIMARY, BACKUP)


def nothing(_: Stage) -> None:
    """Arms no server: the calls themselves tell."""


async def one_call(on_stage: Stage) -> str:
    """The outcome of one call."""
    return str(await on_stage.ask())


@dataclass(frozen=True)
class Scenario:
    """One fault, and a route that meets it.

    *name* is failoverbench's where it has the scenario; *fault* says who does what. *arm* makes the servers fail once
    the gateway runs, *run* makes the calls and says how they ended. *primary* is the server of the first model.
    """

    name: str
    fault: str
    models: tuple[str, ...]
    arm: Callable[[Stage], object]
    run: Callable[[Stage], Awaitable[str]] = one_call
    primary: str = "llmock"
    timeout_s: float = 10.0

    @property
    def key(self) -> tuple[str, str]:
        """What tells it from the others of its table."""
        return self.name, "alone" if self.models == ALONE else "then a backup"


@dataclass(frozen=True)
class Row:
    """What came out of a scenario; *asked* are the attempts that the ledger has, *measured* is of this one run."""

    scenario: Scenario
    outcome: str
    asked: str
    measured: str


async def run(scenario: Scenario, upstreams: Upstreams) -> Row:
    """Runs one; raises AssertionError where caller, ledger, the servers' journals and llmock's verdict disagree."""
    entered = stage(upstreams, scenario.models, primary=scenario.primary, timeout_s=scenario.timeout_s)
    async with entered as on_stage:
        scenario.arm(on_stage)
        if BACKUP in scenario.models:
            on_stage.aimock.add(
                {
                    "match": {"model": BACKUP_AT_PROVIDER},
                    "response": {"content": "The backup says so.", "usage": USAGE},
                }
            )
        outcome = await scenario.run(on_stage)
    measured = on_stage.measured or {"": max(told.seconds for told in on_stage.told)}
    return Row(
        scenario,
        outcome,
        _attempts(on_stage.asked) if len(on_stage.told) == 1 else "of several calls",
        ", ".join(f"{what} {_seconds(value)}".strip() for what, value in measured.items()),
    )


def both(
    name: str, fault: str, arm: Callable[[Stage], object], *, impatient: bool = False, **more: object
) -> list[Scenario]:
    """The same fault with one model alone, and with another one after it; *impatient* callers wait for it less long."""
    if not impatient:
        return [Scenario(name, fault, models, arm, **more) for models in (ALONE, WITH_BACKUP)]
    return [
        Scenario(name, f"{fault}; the caller waits {wait_s} s", models, arm, timeout_s=wait_s, **more)
        for models, wait_s in ((ALONE, 1), (WITH_BACKUP, 3))
    ]


def _attempts(asked: list[tuple[str, str]]) -> str:
    told = []
    for (model, reason), same in groupby(asked):
        times = len(list(same))
        told.append(f"{model}: {reason or 'ok'}" + (f" x{times}" if times > 1 else ""))
    return ", ".join(told) or "nobody"


def _seconds(value: float) -> str:
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.1f} s"
