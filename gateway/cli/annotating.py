"""Asks several tasks about images: `vision-gateway annotate *.jpg --tasks caption,ocr`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli import asking, documents, door, output

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from visiongateway import Annotations, Options

_RPCS = {
    "caption": "Caption",
    "ocr": "OCR",
    "detect": "Detect",
    "classify": "Classify",
    "vqa": "VQA",
    "prompt": "Prompt",
}
# Who takes each argument, and who cannot do without it.
_TAKERS = {
    "labels": ("--label", {"detect", "classify"}),
    "with_regions": ("--with-regions", {"ocr"}),
    "question": ("--question", {"vqa"}),
    "prompt": ("--prompt", {"prompt"}),
}
_NEEDED = {"vqa": "question", "prompt": "prompt"}


def annotate(  # noqa: PLR0913  one parameter for each option
    images: Annotated[list[Path], typer.Argument(exists=True, dir_okay=False, help="JPEG, PNG, WebP or GIF.")],
    *,
    tasks: Annotated[str, typer.Option(help=f"What is asked, with commas between: {', '.join(_RPCS)}.")],
    label: Annotated[list[str] | None, typer.Option(help="Label of detect and classify; may be repeated.")] = None,
    with_regions: Annotated[bool, typer.Option("--with-regions", help="Has ocr tell how sure each line is.")] = False,
    question: Annotated[str | None, typer.Option(help="Question of vqa.")] = None,
    prompt: Annotated[str | None, typer.Option(help="What prompt is to do.")] = None,
    model: Annotated[str | None, typer.Option(help="Asks this model.")] = None,
    route: Annotated[str | None, typer.Option(help="Follows this route.")] = None,
    max_cost_usd: Annotated[float | None, typer.Option(help="Most that each task may cost, in dollars.")] = None,
    image_detail: asking.ImageDetail = None,
    cache: asking.CacheUse = None,
    local_only: asking.LocalOnly = False,
    as_json: Annotated[bool, typer.Option("--json", help="Prints a line of JSON for each image, and no more.")] = False,
    timeout: Annotated[float, typer.Option(min=0, help="Seconds that each call may take, tries included.")] = 60.0,
    address: door.Address = "127.0.0.1:50051",
    api_key: door.Bearer = None,
    tls: door.Tls = False,
    ca: door.Ca = None,
    cert: door.Cert = None,
    key: door.Key = None,
) -> None:
    """Asks several tasks about each image, which is sent once. Exit code 1 unless all are answered."""
    given = {"labels": label, "with_regions": with_regions or None, "question": question, "prompt": prompt}
    asked = _asked(tasks, {name: value for name, value in given.items() if value is not None})
    options: Options = {
        "model": model,
        "route": route,
        "max_cost_usd": max_cost_usd,
        "image_detail": image_detail,
        "cache": cache,
        "local_only": local_only,
    }
    names = [name for name, _ in asked]
    answered = True
    with asking.connected(door.Door(address, api_key, tls, ca, cert, key), timeout) as client:
        from visiongateway import VisionError  # noqa: PLC0415  `--help` should not wait

        for image in images:
            if len(images) > 1 and not as_json:
                output.say(output.plain(str(image)), style="bold")
            try:
                done = client.annotate(image, asked, **options)
            except VisionError as exc:
                # The others may well be in order.
                if exc.reason != "INVALID_IMAGE":
                    raise
                answered = False
                if as_json:
                    _write({"image": str(image), "error": documents.error(exc)})
                else:
                    output.complain(*output.problem(exc))
                continue
            answered &= not any(isinstance(each, VisionError) for each in done.results)
            if as_json:
                _write(document(image, names, done))
            else:
                _say(names, done)
    if not answered:
        raise typer.Exit(1)


def register(app: typer.Typer) -> None:
    """Adds the command to *app*."""
    app.command()(annotate)


def document(image: Path, tasks: Sequence[str], done: Annotations) -> dict[str, Any]:
    """Gives the results of *tasks* about one image as a JSON value; docs/compare.md tells its fields."""
    return {
        "image": str(image),
        "results": [_result(task, each) for task, each in zip(tasks, done.results, strict=True)],
        "usage": documents.usage(done.usage),
        "cost_nano_usd": done.cost_nano_usd,
    }


def _asked(tasks: str, given: Mapping[str, Any]) -> list[tuple[Any, dict[str, Any]]]:
    """Gives each of *tasks* with what it takes of *given*; raises `typer.BadParameter` where they do not fit."""
    names = [each.strip() for each in tasks.split(",")]
    if wrong := [each for each in names if each not in _RPCS]:
        raise typer.BadParameter(f"{wrong[0]!r} is none of {', '.join(_RPCS)}", param_hint="--tasks")
    for argument in given:
        option, takers = _TAKERS[argument]
        if not takers & set(names):
            raise typer.BadParameter(f"is of {' and '.join(sorted(takers))}, not among --tasks", param_hint=option)
    for name, argument in _NEEDED.items():
        if name in names and argument not in given:
            raise typer.BadParameter(f"{name} needs it", param_hint=_TAKERS[argument][0])
    return [
        (name, {argument: value for argument, value in given.items() if name in _TAKERS[argument][1]}) for name in names
    ]


def _result(task: str, result: Any) -> dict[str, Any]:
    from visiongateway import VisionError  # noqa: PLC0415  `--help` should not wait

    if isinstance(result, VisionError):
        return {"task": task, "answer": None, "error": documents.error(result)}
    info = result.info
    return {
        "task": task,
        "answer": documents.answer(result),
        "error": None,
        "model": info.model,
        "latency_ms": info.timing.total.ToMicroseconds() / 1000,
        "cost_nano_usd": info.cost_nano_usd,
        "usage": documents.usage(info.usage),
    }


def _write(value: Mapping[str, Any]) -> None:
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")
    # Whoever reads them goes on with the first while the next is asked.
    sys.stdout.flush()


def _say(tasks: Sequence[str], done: Annotations) -> None:
    from visiongateway import VisionError  # noqa: PLC0415  `--help` should not wait

    for task, result in zip(tasks, done.results, strict=True):
        if isinstance(result, VisionError):
            output.say(task, style="dim")
            output.complain(*output.problem(result))
            continue
        info = result.info
        output.say(f"{task} · {output.model(info)} · {output.latency(info)} · {output.cost(info)}", style="dim")
        output.say(output.answer(_RPCS[task], result))
    output.say(f"all of them · {output.dollars(done.cost_nano_usd)}", style="dim")
