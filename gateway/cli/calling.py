"""Calls a running gateway: `vision-gateway detect photo.jpg --label cat`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import typer

from gateway.cli.asking import Call, with_common_options

_Image: TypeAlias = Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="JPEG, PNG, WebP or GIF.")]
_Draw: TypeAlias = Annotated[
    Path | None,
    typer.Option(dir_okay=False, help="Writes the picture here (PNG) with what was found drawn on it."),
]
_MoreImages: TypeAlias = Annotated[
    list[Path] | None, typer.Option("--image", exists=True, dir_okay=False, help="One more image; may be repeated.")
]
_Stream: TypeAlias = Annotated[bool, typer.Option("--stream", help="Prints the text as the model writes it.")]


def caption(
    image: _Image,
    *,
    detail: Annotated[Literal["short", "normal", "long"], typer.Option(help="How much to say.")] = "normal",
    language: Annotated[str, typer.Option(help="BCP 47 tag, such as de; English by default.")] = "",
    stream: _Stream = False,
) -> Call:
    """Describes an image."""
    return Call("Caption", image, {"detail": detail, "language": language}, stream=stream)


def ocr(
    image: _Image,
    *,
    language: Annotated[list[str] | None, typer.Option(help="BCP 47 tag to expect; may be repeated.")] = None,
    with_regions: Annotated[
        bool, typer.Option("--with-regions", help="Tells how sure each line is, and in JSON where.")
    ] = False,
    draw: _Draw = None,
    stream: _Stream = False,
) -> Call:
    """Reads the text in an image."""
    arguments = {"languages": language or (), "with_regions": with_regions or draw is not None}
    return Call("OCR", image, arguments, draw, stream)


def detect(
    image: _Image,
    *,
    label: Annotated[
        list[str] | None, typer.Option(help="Label to find; may be repeated. Every object by default.")
    ] = None,
    prompt: Annotated[str, typer.Option(help="What else to mind, in words.")] = "",
    max_detections: Annotated[int | None, typer.Option(help="Most objects, 1 to 1000.")] = None,
    draw: _Draw = None,
) -> Call:
    """Finds objects in an image."""
    return Call("Detect", image, {"labels": label or (), "prompt": prompt, "max_detections": max_detections}, draw)


def classify(
    image: _Image,
    *,
    label: Annotated[
        list[str] | None, typer.Option(help="Label to choose from; may be repeated. Any by default.")
    ] = None,
    multi_label: Annotated[bool, typer.Option("--multi-label", help="Several may hold at once.")] = False,
    max_labels: Annotated[int | None, typer.Option(help="Most labels, 1 to 100.")] = None,
) -> Call:
    """Names what an image shows."""
    return Call("Classify", image, {"labels": label or (), "multi_label": multi_label, "max_labels": max_labels})


def vqa(
    image: _Image,
    question: Annotated[str, typer.Argument(help="In any language.")],
    *,
    more: _MoreImages = None,
    answer_schema: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="File with the JSON Schema of the answer.")
    ] = None,
    stream: _Stream = False,
) -> Call:
    """Answers a question about an image."""
    schema = _json_object(answer_schema, "--answer-schema")
    return Call("VQA", image, {"question": question, "images": more or (), "answer_schema": schema}, stream=stream)


def prompt(
    image: _Image,
    prompt: Annotated[str, typer.Argument(help="What to do, in any language.")],
    *,
    system: Annotated[str, typer.Option(help="What the model is told before everything else.")] = "",
    more: _MoreImages = None,
    schema: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="File with the JSON Schema of the answer.")
    ] = None,
    stream: _Stream = False,
) -> Call:
    """Follows an open prompt about an image."""
    arguments = {
        "prompt": prompt,
        "system": system,
        "images": more or (),
        "response_schema": _json_object(schema, "--schema"),
    }
    return Call("Prompt", image, arguments, stream=stream)


def _json_object(path: Path | None, option: str) -> dict[str, Any] | None:
    """Reads the JSON object in the file that *option* names, if it does."""
    if path is None:
        return None
    try:
        found = json.loads(path.read_bytes())
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise typer.BadParameter(f"{path} holds no JSON object", param_hint=option)
    return found


def register(app: typer.Typer) -> None:
    """Adds the commands to *app*."""
    for command in (caption, ocr, detect, classify, vqa, prompt):
        app.command()(with_common_options(command))
