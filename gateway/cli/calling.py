"""Calls a running gateway: `vision-gateway detect photo.jpg --label cat`."""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, TypeAlias
from urllib.error import URLError
from urllib.request import urlopen

import typer

from gateway.cli import output

_Image: TypeAlias = Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="JPEG, PNG, WebP or GIF.")]
_Draw: TypeAlias = Annotated[
    Path | None, typer.Option("--draw", help="Writes the picture here (PNG) with what was found drawn on it.")
]


@dataclass(frozen=True, slots=True)
class _Call:
    """What one command asks: the RPC and the arguments that its client method takes."""

    rpc: str
    image: Path
    arguments: dict[str, Any] = field(default_factory=dict)
    draw: Path | None = None


def _common(  # noqa: PLR0913  one parameter for each option that every call has
    *,
    address: Annotated[
        str, typer.Option(envvar="VISION_GATEWAY_ADDRESS", help="HOST:PORT of the gateway.")
    ] = "127.0.0.1:50051",
    as_json: Annotated[
        bool, typer.Option("--json", help="Prints the whole answer as proto JSON, and no more.")
    ] = False,
    timeout: Annotated[float, typer.Option(help="Seconds the call may take.")] = 60.0,
    model: Annotated[str | None, typer.Option(help="Asks this model.")] = None,
    route: Annotated[str | None, typer.Option(help="Follows this route.")] = None,
    priority: Annotated[str | None, typer.Option(help="quality, balanced or cost.")] = None,
    max_cost_usd: Annotated[float | None, typer.Option(help="Most the call may cost, in dollars.")] = None,
    image_detail: Annotated[str | None, typer.Option(help="low, medium, high or max.")] = None,
    reasoning: Annotated[str | None, typer.Option(help="none, low, medium or high.")] = None,
    max_output_tokens: Annotated[int | None, typer.Option(help="Most tokens of answer and reasoning.")] = None,
    temperature: Annotated[float | None, typer.Option(help="Sampling temperature, 0 to 2.")] = None,
    seed: Annotated[int | None, typer.Option(help="Sampling seed.")] = None,
    allow_fallback: Annotated[bool | None, typer.Option(help="Lets another model answer, or not.")] = None,
    local_only: Annotated[bool, typer.Option(help="Keeps the image away from third parties.")] = False,
    service_tier: Annotated[str | None, typer.Option(help="standard, flex or priority.")] = None,
    request_id: Annotated[str | None, typer.Option(help="Identifier for logs.")] = None,
) -> None:
    """Declares the options that every call has; never called."""


def caption(
    image: _Image,
    detail: Annotated[str | None, typer.Option(help="short, normal or long.")] = None,
    language: Annotated[str, typer.Option(help="BCP 47 tag, such as de.")] = "",
) -> _Call:
    """Describes an image."""
    return _Call("Caption", image, {"detail": detail, "language": language})


def ocr(
    image: _Image,
    language: Annotated[list[str] | None, typer.Option(help="BCP 47 tag to expect; may be repeated.")] = None,
    regions: Annotated[bool, typer.Option("--regions", help="Tells where each line is.")] = False,  # noqa: FBT002
    draw: _Draw = None,
) -> _Call:
    """Reads the text in an image."""
    return _Call("OCR", image, {"languages": language or (), "with_regions": regions or draw is not None}, draw)


def detect(
    image: _Image,
    label: Annotated[list[str] | None, typer.Option(help="Label to find; may be repeated. Default: any.")] = None,
    prompt: Annotated[str, typer.Option(help="What else to mind, in words.")] = "",
    max_detections: Annotated[int | None, typer.Option(help="Most objects, 1 to 1000.")] = None,
    draw: _Draw = None,
) -> _Call:
    """Finds objects in an image."""
    return _Call("Detect", image, {"labels": label or (), "prompt": prompt, "max_detections": max_detections}, draw)


def classify(
    image: _Image,
    label: Annotated[list[str] | None, typer.Option(help="Label to choose from; may be repeated.")] = None,
    multi_label: Annotated[bool, typer.Option("--multi-label", help="Several may hold at once.")] = False,  # noqa: FBT002
    max_labels: Annotated[int | None, typer.Option(help="Most labels, 1 to 100.")] = None,
) -> _Call:
    """Names what an image shows."""
    return _Call("Classify", image, {"labels": label or (), "multi_label": multi_label, "max_labels": max_labels})


def vqa(
    image: _Image,
    question: Annotated[str, typer.Argument(help="In any language.")],
    more: Annotated[list[Path] | None, typer.Option("--image", exists=True, help="One more image.")] = None,
    answer_schema: Annotated[
        Path | None, typer.Option("--schema", exists=True, help="File with the JSON Schema of the answer.")
    ] = None,
) -> _Call:
    """Answers a question about an image."""
    schema = json.loads(answer_schema.read_text()) if answer_schema else None
    return _Call("VQA", image, {"question": question, "images": more or (), "answer_schema": schema})


def models(
    http_address: Annotated[
        str, typer.Option(envvar="VISION_GATEWAY_HTTP_ADDRESS", help="HOST:PORT of the gateway's HTTP port.")
    ] = "127.0.0.1:8080",
) -> None:
    """Lists the models of a running gateway and whether each can be asked."""
    try:
        with urlopen(f"http://{http_address}/readyz", timeout=5) as response:
            state = json.load(response)
    except URLError as exc:
        if not hasattr(exc, "read"):
            output.errors.print(f"no gateway answers at http://{http_address}", style="red", highlight=False)
            raise typer.Exit(1) from None
        state = json.loads(exc.read())  # Not ready is told with 503, and in the same words.
    for name, ready in state["models"].items():
        output.console.print(f"{name}  {ready}", highlight=False)


def register(app: typer.Typer) -> None:
    """Adds the commands to *app*."""
    for command in (caption, ocr, detect, classify, vqa):
        app.command()(_with_common_options(command))
    app.command()(models)


def _with_common_options(command: Callable[..., _Call]) -> Callable[..., None]:
    """Adds the options of `_common` to those of *command*, which says what to ask, and asks it."""
    own = inspect.signature(command, eval_str=True).parameters
    common = inspect.signature(_common, eval_str=True).parameters

    @wraps(command)
    def run(**given: Any) -> None:
        options = {name: given.pop(name) for name in common}
        _ask(command(**given), **options)

    parameters = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in (*own.values(), *common.values())]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # What typer reads.
    run.__annotations__ = {each.name: each.annotation for each in parameters}
    return run


def _ask(call: _Call, *, address: str, as_json: bool, **options: Any) -> None:
    # Imported here: `--help` should not wait for gRPC.
    from google.protobuf.json_format import MessageToJson  # noqa: PLC0415

    from visiongateway import VisionClient, VisionError  # noqa: PLC0415

    try:
        with VisionClient(address) as client:
            response = getattr(client, call.rpc.lower())(call.image, **call.arguments, **options)
    except VisionError as exc:
        output.errors.print(str(exc), style="red", markup=False, highlight=False)
        for violation in exc.violations:
            output.errors.print(f"  {violation.field}: {violation.description}", markup=False, highlight=False)
        raise typer.Exit(1) from None
    except (ValueError, TypeError) as exc:
        raise typer.BadParameter(str(exc)) from None
    if call.draw:
        from gateway.cli.draw import draw  # noqa: PLC0415  Pillow is needed for this alone

        draw(call.image, response, call.draw)
    if as_json:
        sys.stdout.write(MessageToJson(response) + "\n")
        return
    info = response.info
    output.console.print(output.answer(call.rpc, response), markup=False, highlight=False)
    output.console.print(
        f"{output.model(info)} · {output.latency(info)} · {output.cost(info)}", style="dim", highlight=False
    )
