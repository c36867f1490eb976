"""Shows what a call of each task costs at each detail of the image, before any is made."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli import output
from gateway.cli.serving import load_settings

if TYPE_CHECKING:
    from collections.abc import Iterator

_STANDARD = {"gemma-4-26b-a4b": {"kind": "triton"}, "gpt-5.5": {"kind": "openai"}}
_NANO = 10**9


def costs(
    settings: Annotated[
        Path | None, typer.Option(help="TOML file; Gemma 4 and GPT-5.5 at their list prices by default.")
    ] = None,
    size: Annotated[str, typer.Option(help="Size of the image in pixels, as WIDTHxHEIGHT.")] = "4000x3000",
    together: Annotated[
        list[str] | None, typer.Option(help="Task to do with others in one call of a model; two or more times.")
    ] = None,
) -> None:
    """Prints a table of what each task is expected to cost at each image_detail, as Markdown; calls nobody.

    Expected is an answer of 176 tokens, or of the task's longest where that is less; the task's own image_detail stands
    out. At most, at that detail: the longest answer, and a token for each byte of the instructions.

    With --together: what these tasks about one image are expected to cost in a call each, and all in one call.
    """
    found = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", size)
    if found is None:
        raise typer.BadParameter("is WIDTHxHEIGHT in pixels, such as 4000x3000", param_hint="--size")
    loaded = load_settings(settings) if settings else load_settings(None, models=_STANDARD)
    width_px, height_px = int(found[1]), int(found[2])
    lines = _together(loaded, width_px, height_px, together) if together else _table(loaded, width_px, height_px)
    for line in lines:
        output.say(line)


def register(app: typer.Typer) -> None:
    """Adds the command to *app*."""
    app.command()(costs)


def _table(settings: Any, width_px: int, height_px: int) -> Iterator[str]:
    from gateway import app, tasks  # noqa: PLC0415  `--help` should not wait
    from gateway.domain import Ask, ImageDetail, Options, SourceImage  # noqa: PLC0415  likewise

    details = list(ImageDetail)
    yield f"| model | task | {' | '.join(detail.name for detail in details)} | at most |"
    yield f"|---|---|{'---|' * len(details)}---|"
    image = SourceImage(b"", "image/jpeg", width_px, height_px)
    for name, (quoter, profile) in app.quoters(settings).items():
        for task in tasks.load().values():
            query, default = task.query(_typical(task.request)), profile.details[task.rpc]
            quotes = [quoter.quote(Ask(query, (image,), Options(image_detail=detail), 0.0, "")) for detail in details]
            expected = [_usd(quote.expected_cost) for quote in quotes]
            expected[details.index(default)] = f"**{expected[details.index(default)]}**"
            at_most = _usd(quotes[details.index(default)].max_cost)
            yield f"| {name} | {task.rpc} | {' | '.join(expected)} | {at_most} |"


def _together(settings: Any, width_px: int, height_px: int, names: list[str]) -> Iterator[str]:
    from gateway import app, tasks  # noqa: PLC0415  `--help` should not wait
    from gateway.domain import Ask, Options, SeveralQuery, SourceImage  # noqa: PLC0415  likewise
    from gateway.errors import UnsupportedByModel  # noqa: PLC0415  likewise

    known = {rpc.lower(): task for rpc, task in tasks.load().items()}
    if len(names) == 1 or not set(names) <= known.keys():
        raise typer.BadParameter(f"is two or more of {', '.join(known)}", param_hint="--together")
    chosen = [known[name] for name in names]
    queries = tuple(task.query(_typical(task.request)) for task in chosen)
    image = SourceImage(b"", "image/jpeg", width_px, height_px)
    yield "| model | tasks | in a call each | in one call | saved |"
    yield "|---|---|---|---|---|"
    for name, (quoter, _) in app.quoters(settings).items():
        costs = [quoter.quote(Ask(query, (image,), Options(), 0.0, "")).expected_cost for query in queries]
        try:
            one = quoter.quote(Ask(SeveralQuery(queries), (image,), Options(), 0.0, "")).expected_cost
        except UnsupportedByModel:
            continue
        alone = sum(costs)
        rpcs = ", ".join(task.rpc for task in chosen)
        yield f"| {name} | {rpcs} | {_usd(alone)} | {_usd(one)} | {(alone - one) / alone:.0%} |"


def _typical(request: Any) -> Any:
    """Gives a request of the kind that callers make."""
    names = request.DESCRIPTOR.fields_by_name
    given: dict[str, Any] = {}
    if "labels" in names:
        given["labels"] = ["person", "car", "dog"]
    if "question" in names:
        given["question"] = "How many people are in the picture?"
    return request(**given)


def _usd(nano_usd: int) -> str:
    return f"${nano_usd / _NANO:.6f}"
