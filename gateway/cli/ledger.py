"""Reports what was used and what it cost, and compares that with a provider's own account."""

from __future__ import annotations

import csv
import json
import os
import sys
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import typer

from gateway.cli import output, process

_Ledger: TypeAlias = Annotated[
    str | None, typer.Option("--ledger", help="sqlite:///PATH or postgresql://...; by default that of the settings.")
]
_Settings: TypeAlias = Annotated[Path | None, typer.Option("--settings", help="TOML file that names the ledger.")]

_MICRO = 1_000_000


def usage(
    *,
    ledger: _Ledger = None,
    settings: _Settings = None,
    by: Annotated[
        str, typer.Option(help="What to tell apart, with commas: day, principal, rpc, model, provider, provider_model.")
    ] = "day,principal,rpc,model",
    since: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="First day, in UTC.")] = None,
    until: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Last day, in UTC.")] = None,
    form: Annotated[Literal["table", "csv", "json"], typer.Option("--format", help="Form of the report.")] = "table",
) -> None:
    """Says how many attempts the ledger has, their tokens and their cost."""
    from gateway.ledger import LedgerUnavailable, report  # noqa: PLC0415  `--help` should not wait

    groups = [each for each in by.split(",") if each]
    if unknown := [each for each in groups if each not in report.GROUPS]:
        raise typer.BadParameter(f"no {unknown[0]!r}; there are {', '.join(report.GROUPS)}", param_hint="--by")
    try:
        lines = report.usage(_url(ledger, settings), by=groups, since=_day(since), until=_day(until))
    except LedgerUnavailable as exc:
        raise process.CannotStart(str(exc)) from None
    if form == "json":
        sys.stdout.write(json.dumps(lines) + "\n")
    elif form == "csv":
        _csv(lines)
    else:
        _table(lines, groups)


def reconcile(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="OpenAI's usage or costs, JSON or CSV.")],
    *,
    ledger: _Ledger = None,
    settings: _Settings = None,
    provider_models: Annotated[
        str, typer.Option(help="The provider's names of the models to compare, with commas; by default all.")
    ] = "",
    tolerance: Annotated[str, typer.Option(help="Share by which figures may differ, such as 0.01.")] = "0",
) -> None:
    """Compares the ledger with a provider's own account, day by day and model by model.

    Reads what OpenAI's organization usage API (group_by=model) and costs API (group_by=line_item) give. Names every
    figure that differs; the exit code is 1 when there is one.
    """
    from gateway.ledger import LedgerUnavailable, reconcile as reconciling  # noqa: PLC0415  `--help` should not wait

    try:
        export = reconciling.read(file.read_text(encoding="utf-8-sig"))
        models = [each for each in provider_models.split(",") if each]
        found = reconciling.compare(export, _url(ledger, settings), models=models, tolerance=_share(tolerance))
    except (LedgerUnavailable, reconciling.UnreadableExport) as exc:
        raise process.CannotStart(str(exc)) from None
    except UnicodeDecodeError:
        raise process.CannotStart("the file is no usage export of OpenAI's, neither JSON nor CSV") from None
    first, last = export.days
    span = first if first == last else f"{first} to {last}"
    if not found:
        output.say(f"The ledger and the provider agree, {span}.")
        return
    output.say(f"The ledger and the provider differ, {span}:")
    for each in found:
        output.say(
            f"{each.day}  {each.model}  {each.figure}: ledger {each.ledger}, provider {each.provider} "
            f"({each.ledger - each.provider:+})"
        )
    raise typer.Exit(1)


def trace(
    *,
    ledger: _Ledger = None,
    settings: _Settings = None,
    since: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="First day, in UTC.")] = None,
    until: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Last day, in UTC.")] = None,
) -> None:
    """Prints the calls in the ledger as a trace for `simulate`, a JSON object a line.

    The ledger knows when a call came and its RPC; sizes of images, categories and deadlines are not in it.
    """
    from gateway.ledger import LedgerUnavailable, report  # noqa: PLC0415  `--help` should not wait

    try:
        found = report.arrivals(_url(ledger, settings), since=_day(since), until=_day(until))
    except LedgerUnavailable as exc:
        raise process.CannotStart(str(exc)) from None
    start_us = found[0][0] if found else 0
    for time_us, rpc in found:
        sys.stdout.write(json.dumps({"at_s": (time_us - start_us) / _MICRO, "rpc": rpc}) + "\n")


def register(app: typer.Typer) -> None:
    """Adds the commands to *app*."""
    for command in (usage, reconcile, trace):
        app.command()(command)


def _url(ledger: str | None, settings: Path | None) -> str:
    from gateway.settings import LedgerSettings, SettingsError, load  # noqa: PLC0415  `--help` should not wait

    if ledger is None and settings is None:
        # A ledger is worth reading also where no model is configured.
        ledger = os.environ.get("VISION_GATEWAY_LEDGER__URL") or LedgerSettings().url
    try:
        url = load(settings).ledger.url if ledger is None else ledger
    except SettingsError as exc:
        raise process.CannotStart(*exc.problems) from None
    if url == "off":
        raise process.CannotStart("the ledger is off; name one with --ledger")
    return url


def _day(at: datetime | None) -> date | None:
    return None if at is None else at.date()


def _share(text: str) -> Decimal:
    try:
        share = Decimal(text)
    except InvalidOperation:
        share = Decimal("NaN")
    if not share.is_finite() or share < 0:
        raise typer.BadParameter("must be a share such as 0.01", param_hint="--tolerance")
    return share


def _csv(lines: list[dict[str, Any]]) -> None:
    if lines:
        writer = csv.DictWriter(sys.stdout, lines[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)


def _table(lines: list[dict[str, Any]], groups: list[str]) -> None:
    from rich.table import Table  # noqa: PLC0415  `--help` should not wait

    columns = ("attempts", "failed", "input_tokens", "image_tokens", "cached_input_tokens", "output_tokens")
    table = Table(*groups)
    for name in (*columns, "cost", "of it estimated"):
        table.add_column(name.removesuffix("_tokens").replace("_", " "), justify="right")
    for line in lines:
        table.add_row(
            *(output.plain(str(line[name])) for name in groups),
            *(f"{line[name]:,}" for name in columns),
            output.dollars(line["cost_nano_usd"]),
            output.dollars(line["estimated_nano_usd"]),
        )
    output.console.print(table)
