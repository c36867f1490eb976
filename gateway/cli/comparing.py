"""Asks several models the same: `vision-gateway compare photo.jpg --task detect --label cat`."""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from gateway.cli import asking, documents, door, output

if TYPE_CHECKING:
    from collections.abc import Sequence

    from visiongateway import Row
    from visiongateway.v1.vision_service_pb2 import Agreement

_RPCS = {"caption": "Caption", "ocr": "OCR", "detect": "Detect", "classify": "Classify", "vqa": "VQA"}


def compare(  # noqa: PLR0913  one parameter for each option
    image: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="JPEG, PNG, WebP or GIF.")],
    *,
    task: Annotated[Literal["caption", "ocr", "detect", "classify", "vqa"], typer.Option(help="What is asked.")],
    model: Annotated[
        list[str] | None, typer.Option(help="Model to ask; may be repeated. Every one that can, by default.")
    ] = None,
    label: Annotated[list[str] | None, typer.Option(help="Label of detect or classify; may be repeated.")] = None,
    question: Annotated[str | None, typer.Option(help="Question of vqa.")] = None,
    with_regions: Annotated[bool, typer.Option("--with-regions", help="Has ocr tell where each line is.")] = False,
    max_cost_usd: Annotated[float | None, typer.Option(help="Most that each model may cost, in dollars.")] = None,
    image_detail: asking.ImageDetail = None,
    cache: asking.CacheUse = None,
    local_only: asking.LocalOnly = False,
    as_json: Annotated[bool, typer.Option("--json", help="Prints one JSON document at the end, and no more.")] = False,
    timeout: Annotated[float, typer.Option(min=0, help="Seconds the call may take, tries included.")] = 60.0,
    address: door.Address = "127.0.0.1:50051",
    api_key: door.Bearer = None,
    tls: door.Tls = False,
    ca: door.Ca = None,
    cert: door.Cert = None,
    key: door.Key = None,
) -> None:
    """Asks several models the same, and tells how far they agree. Exit code 1 where none answers."""
    given = {"labels": label, "question": question, "with_regions": with_regions or None}
    arguments = {name: value for name, value in given.items() if value is not None}
    options = {
        "max_cost_usd": max_cost_usd,
        "image_detail": image_detail,
        "cache": cache,
        "local_only": local_only,
    }
    rows: list[Row] = []
    with (
        asking.connected(door.Door(address, api_key, tls, ca, cert, key), timeout) as client,
        client.compare(task, image, model or (), **arguments, **options) as comparison,
    ):
        for row in comparison:
            rows.append(row)
            if not as_json:
                _say(_RPCS[task], row)
        agreement = comparison.agreement
    if as_json:
        sys.stdout.write(json.dumps(document(task, rows, agreement), ensure_ascii=False, indent=2) + "\n")
    else:
        for pair in agreement.pairs:
            matched = f", {len(pair.matches)} objects matched" if task == "detect" else ""
            names = output.plain(f"{pair.first_model} and {pair.second_model}")
            output.say(f"{names} agree to {pair.score:.0%}{matched}")
    if not any(row.answer for row in rows):
        raise typer.Exit(1)


def register(app: typer.Typer) -> None:
    """Adds the command to *app*."""
    app.command()(compare)


def document(task: str, rows: Sequence[Row], agreement: Agreement) -> dict[str, Any]:
    """Gives a whole comparison as one JSON value; docs/compare.md tells its fields."""
    image = rows[0].info.image
    scores: defaultdict[str, dict[str, float]] = defaultdict(dict)
    for pair in agreement.pairs:
        scores[pair.first_model][pair.second_model] = scores[pair.second_model][pair.first_model] = pair.score
    return {
        "task": task,
        "image": {"width_px": image.width_px, "height_px": image.height_px, "media_type": image.media_type},
        "models": [_row(row) for row in rows],
        "agreement": {
            "scores": scores,
            "pairs": [
                {
                    "first_model": pair.first_model,
                    "second_model": pair.second_model,
                    "score": pair.score,
                    "matches": [
                        {"first_index": match.first_index, "second_index": match.second_index, "iou": match.iou}
                        for match in pair.matches
                    ],
                }
                for pair in agreement.pairs
            ],
        },
        "cost_nano_usd": sum(row.info.cost_nano_usd for row in rows),
    }


def _row(row: Row) -> dict[str, Any]:
    return {
        "model": row.model,
        "answer": row.answer and documents.answer(row.answer),
        "error": row.error and documents.error(row.error),
        "latency_ms": row.info.timing.total.ToMicroseconds() / 1000,
        "upstream_ms": row.info.timing.upstream.ToMicroseconds() / 1000,
        "cost_nano_usd": row.info.cost_nano_usd,
        "usage": documents.usage(row.info.usage),
    }


def _say(rpc: str, row: Row) -> None:
    output.say(f"{output.plain(row.model)} · {output.latency(row.info)} · {output.cost(row.info)}", style="dim")
    if row.error:
        output.complain(*output.problem(row.error))
    else:
        output.say(output.answer(rpc, row.answer))
