"""What every command that makes a call has: its options, the call itself, and how answer and failure are told."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import typer

from gateway.cli import door, output

if TYPE_CHECKING:
    from visiongateway import VisionClient

_every = partial(typer.Option, rich_help_panel="Options of every call")

# Of commands that ask several models or tasks at once.
ImageDetail: TypeAlias = Annotated[
    Literal["low", "medium", "high", "max"] | None, typer.Option(help="How much of the image the models see.")
]
CacheUse: TypeAlias = Annotated[
    Literal["default", "bypass", "refresh"] | None, typer.Option(help="Use of cached answers.")
]
LocalOnly: TypeAlias = Annotated[bool, typer.Option("--local-only", help="Asks no model of a third party.")]


@dataclass(frozen=True, slots=True)
class Call:
    """What one command asks: the RPC and the arguments that its client method takes, and whether word by word."""

    rpc: str
    image: Path
    arguments: dict[str, Any] = field(default_factory=dict)
    draw: Path | None = None
    stream: bool = False


def _common(  # noqa: PLR0913  one parameter for each option that every call has
    *,
    address: Annotated[
        str, _every(envvar="VISION_GATEWAY_ADDRESS", help="HOST:PORT of the gateway, or several IP:PORT and commas.")
    ] = "127.0.0.1:50051",
    as_json: Annotated[bool, _every("--json", help="Prints the whole answer as proto JSON, and no more.")] = False,
    timeout: Annotated[float, _every(min=0, help="Seconds the call may take, tries included.")] = 60.0,
    model: Annotated[str | None, _every(help="Asks this model.")] = None,
    route: Annotated[str | None, _every(help="Follows this route.")] = None,
    priority: Annotated[Literal["quality", "balanced", "cost"] | None, _every(help="What to prefer.")] = None,
    max_cost_usd: Annotated[float | None, _every(help="Most the call may cost, in dollars.")] = None,
    image_detail: Annotated[
        Literal["low", "medium", "high", "max"] | None, _every(help="How much of the image the model gets to see.")
    ] = None,
    reasoning: Annotated[
        Literal["none", "low", "medium", "high"] | None, _every(help="How long the model may think.")
    ] = None,
    max_output_tokens: Annotated[int | None, _every(help="Most tokens of answer and reasoning, 16 to 32768.")] = None,
    temperature: Annotated[float | None, _every(help="Sampling temperature, 0 to 2.")] = None,
    seed: Annotated[int | None, _every(help="Sampling seed.")] = None,
    allow_fallback: Annotated[bool | None, _every(help="Whether another model may answer.")] = None,
    cache: Annotated[Literal["default", "bypass", "refresh"] | None, _every(help="Use of cached answers.")] = None,
    local_only: Annotated[bool, _every("--local-only", help="Keeps the image away from third parties.")] = False,
    service_tier: Annotated[
        Literal["standard", "flex", "priority"] | None, _every(help="Service tier asked of the provider.")
    ] = None,
    max_image_tokens: Annotated[int | None, _every(help="Most tokens that an image may cost, 64 to 16384.")] = None,
    urgency: Annotated[Literal["interactive", "bulk"] | None, _every(help="Whether somebody waits.")] = None,
    category: Annotated[str | None, _every(help="Kind of work, by the operator's name, such as counting.")] = None,
    request_id: Annotated[str | None, _every(help="Identifier for logs.")] = None,
    api_key: door.Bearer = None,
    tls: door.Tls = False,
    ca: door.Ca = None,
    cert: door.Cert = None,
    key: door.Key = None,
    quote: Annotated[bool, _every("--quote", help="Tells what the call would cost, and makes none.")] = False,
) -> None:
    """Declares the options that every call has; never called."""


def with_common_options(command: Callable[..., Call]) -> Callable[..., None]:
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


@contextmanager
def connected(to: door.Door, timeout: float) -> Iterator[VisionClient]:
    """Gives a client of the gateway at the door *to*; says what a call fails with, and ends the command."""
    # Imported here: `--help` should not wait for gRPC.
    from visiongateway import DeadlineExceeded, Unavailable, VisionClient, VisionError  # noqa: PLC0415

    try:
        with VisionClient(
            to.address.split(","), credentials=to.credentials(), token=to.bearer, timeout=timeout
        ) as client:
            yield client
    except VisionError as exc:
        # What gRPC itself says of these is for programmers.
        if isinstance(exc, Unavailable) and not exc.reason:
            exc.message = f"no gateway takes calls at {to.address}: {exc.message}"
        if isinstance(exc, DeadlineExceeded) and not exc.reason:
            exc.message = f"no answer within {timeout:g} s"
        output.complain(*output.problem(exc))
        raise typer.Exit(1) from None
    except (ValueError, TypeError) as exc:
        raise typer.BadParameter(str(exc)) from None
    except OSError as exc:
        output.complain(f"An image cannot be read: {exc.filename}: {exc.strerror}")
        raise typer.Exit(1) from None


def _ask(  # noqa: PLR0913  what the call itself does not have
    call: Call,
    *,
    address: str,
    api_key: str | None,
    tls: bool,
    ca: Path | None,
    cert: Path | None,
    key: Path | None,
    as_json: bool,
    timeout: float,
    quote: bool,
    **options: Any,
) -> None:
    from google.protobuf.json_format import MessageToJson  # noqa: PLC0415  `--help` should not wait

    task: Any = call.rpc.lower()
    written = False
    with connected(door.Door(address, api_key, tls, ca, cert, key), timeout) as client:
        if call.stream and not quote and not as_json:
            with getattr(client, f"stream_{task}")(call.image, **call.arguments, **options) as stream:
                written = output.write(stream)
            response: Any = stream.answer
        else:
            ask = partial(client.quote, task) if quote else getattr(client, task)
            response = ask(call.image, **call.arguments, **options)
    if as_json:
        sys.stdout.write(MessageToJson(response) + "\n")
    elif quote:
        output.say("\n".join(map(output.candidate, response.candidates)))
    else:
        info = response.info
        if not written:
            output.say(output.answer(call.rpc, response))
        output.say(f"{output.model(info)} · {output.latency(info)} · {output.cost(info)}", style="dim")
    if call.draw and not quote:
        _draw(call.image, response, call.draw)


def _draw(picture: Path, response: Any, out: Path) -> None:
    from gateway.cli.draw import draw  # noqa: PLC0415  Pillow is needed for this alone

    try:
        draw(picture, response, out)
    except OSError as exc:
        output.complain(f"Nothing could be drawn: {out}: {exc.strerror or exc}")
        raise typer.Exit(1) from None
