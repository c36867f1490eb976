"""Tries routes out on recorded or made-up calls, before anybody calls them: no model is asked, and no time passes."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from gateway.cli import output, process
from gateway.cli.serving import load_settings

if TYPE_CHECKING:
    from collections.abc import Mapping
    from fractions import Fraction

    from gateway.settings import Settings
    from gateway.simulation.behaviour import Behaviour
    from gateway.simulation.report import Figures
    from gateway.simulation.trace import Call

_NANO = 10**9
_COLUMNS = (
    "route",
    "noticed",
    "right, expected",
    "right, sampled",
    "USD per 1,000, expected",
    "sampled",
    "p50",
    "p95",
    "answered by",
    "escalated",
    "without answer",
)


def simulate(  # noqa: PLR0913  typer makes one option of each parameter
    *,
    settings: Annotated[Path, typer.Option("--settings", help="TOML file with the models and routes to try.")],
    trace: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Calls to replay; see docs/simulator.md.")
    ] = None,
    models: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="TOML file that says how models behave.")
    ] = None,
    route: Annotated[
        list[str] | None, typer.Option(help="Makes every call on this route; may be repeated, to compare routes.")
    ] = None,
    noticed: Annotated[
        list[float] | None,
        typer.Option(
            min=0, max=1, help="Share of wrong answers that checks find doubtful, of all models; may be repeated."
        ),
    ] = None,
    errors: Annotated[
        Literal["independent", "alike"], typer.Option(help="Whether models are wrong at the same calls.")
    ] = "independent",
    calls: Annotated[int, typer.Option(min=1, max=1_000_000, help="Calls to make up where there is no trace.")] = 2010,
    rate: Annotated[float, typer.Option(min=0.000_001, help="Of these, calls a second on average.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Draws all chance; equal seeds give equal figures.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Prints all figures as JSON.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Prints the table as Markdown.")] = False,
) -> None:
    """Replays calls through the policies of the settings, with simulated models, and says what comes of it.

    Without --trace the calls are the 67 prompts of Roboflow's published comparison over and over; unless --models says
    otherwise the models behave as published there.
    """
    from gateway.simulation import trace as traces  # noqa: PLC0415  `--help` should not wait
    from gateway.simulation.replay import Simulation  # noqa: PLC0415  likewise
    from gateway.simulation.report import figures  # noqa: PLC0415  likewise

    loaded = load_settings(settings)
    if unknown := [name for name in route or () if name not in loaded.all_routes]:
        raise typer.BadParameter(f"no {unknown[0]!r}; there are {', '.join(loaded.all_routes)}", param_hint="--route")
    behaviours = _behaviours(loaded, models)
    made = _recorded(trace) if trace else traces.synthetic(calls, per_s=rate, seed=seed)
    found = [
        (
            share,
            figures(Simulation(loaded, _noticing(behaviours, share), seed, alike=errors == "alike"), made, route=name),
        )
        for share in noticed or (None,)
        for name in route or (None,)
    ]
    if as_json:
        sys.stdout.write(json.dumps([_json(share, each) for share, each in found]) + "\n")
        return
    rows = [_row(share, each) for share, each in found]
    columns = [name for name in _COLUMNS if any(row[name] for row in rows)]
    if markdown:
        output.say(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
        for row in rows:
            output.say(f"| {' | '.join(row[name] for name in columns)} |")
    else:
        _table(columns, rows)


def register(app: typer.Typer) -> None:
    """Adds the command to *app*."""
    app.command()(simulate)


def _behaviours(settings: Settings, file: Path | None) -> dict[str, Behaviour]:
    from gateway.compose.plan import plans  # noqa: PLC0415  `--help` should not wait
    from gateway.simulation import behaviour  # noqa: PLC0415  likewise

    families = {name: plan.profile.family for name, plan in plans(settings).items()}
    try:
        return behaviour.read(file, families) if file else behaviour.of_families(families)
    except behaviour.BadBehaviour as exc:
        raise process.CannotStart(*exc.problems) from None


def _recorded(file: Path) -> list[Call]:
    from gateway.simulation import trace as traces  # noqa: PLC0415  `--help` should not wait

    try:
        return traces.read(file)
    except traces.BadTrace as exc:
        raise process.CannotStart(*(f"{file}: {problem}" for problem in exc.problems)) from None


def _noticing(behaviours: Mapping[str, Behaviour], share: float | None) -> dict[str, Behaviour]:
    from fractions import Fraction  # noqa: PLC0415  `--help` should not wait

    changed = {} if share is None else {"noticed": Fraction(str(share))}
    return {name: each.model_copy(update=changed) for name, each in behaviours.items()}


def _row(noticed: float | None, of: Figures) -> dict[str, str]:
    return {
        "route": of.route,
        "noticed": "" if noticed is None else f"{noticed:.0%}",
        "right, expected": _share(of.expected_right),
        "right, sampled": f"{of.share_right:.2%} ± {of.standard_error:.2%}",
        "USD per 1,000, expected": _per_thousand(of.expected_cost_nano_usd),
        "sampled": _per_thousand(of.cost_nano_usd / of.calls),
        "p50": _seconds(of.p50_s),
        "p95": _seconds(of.p95_s),
        "answered by": _shares(of.models, of.calls),
        "escalated": _shares(of.escalations, of.calls),
        "without answer": _shares(of.failures, of.calls),
    }


def _json(noticed: float | None, of: Figures) -> dict[str, Any]:
    right, cost = of.expected_right, of.expected_cost_nano_usd
    return {
        "route": of.route,
        "noticed": noticed,
        "calls": of.calls,
        "answered": of.answered,
        "right": of.right,
        "share_right": of.share_right,
        "standard_error": of.standard_error,
        "expected_share_right": None if right is None else float(right),
        "cost_nano_usd": of.cost_nano_usd,
        "cost_nano_usd_per_1000_calls": of.cost_nano_usd * 1000 / of.calls,
        "expected_cost_nano_usd_per_1000_calls": None if cost is None else float(cost * 1000),
        "p50_s": of.p50_s,
        "p95_s": of.p95_s,
        "answered_by": dict(of.models),
        "cached": of.cached,
        "escalations": dict(of.escalations),
        "failures": dict(of.failures),
        "shed": of.shed,
    }


def _table(columns: list[str], rows: list[dict[str, str]]) -> None:
    from rich.table import Table  # noqa: PLC0415  `--help` should not wait

    table = Table()
    for name in columns:
        table.add_column(name)
    for row in rows:
        table.add_row(*(output.plain(row[name]) for name in columns))
    output.console.print(table)


def _share(share: Fraction | None) -> str:
    return "" if share is None else f"{float(share):.2%}"


def _per_thousand(nano_usd: Fraction | float | None) -> str:
    return "" if nano_usd is None else f"{float(nano_usd) * 1000 / _NANO:.4f}"


def _seconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:.1f} s"


def _shares(counts: Mapping[str, int], calls: int) -> str:
    return ", ".join(f"{name} {count / calls:.1%}" for name, count in counts.items())
