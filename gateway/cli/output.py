"""Writes for people: answers, who gave them, how long they took and what they cost, and what went wrong."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from rich.console import Console

if TYPE_CHECKING:
    from collections.abc import Iterable

    from visiongateway import VisionError
    from visiongateway.v1.call_pb2 import CallInfo
    from visiongateway.v1.model_pb2 import Model, Route
    from visiongateway.v1.vision_service_pb2 import QuoteCandidate

# A log has no width; tables in it should not be squeezed into 80 columns.
_LOG_WIDTH = 140
# A picture may make a model write what a terminal obeys.
_CONTROLS = {
    code: "\N{REPLACEMENT CHARACTER}" for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\n\t"
}


def _console(*, stderr: bool) -> Console:
    # What models write is not markup.
    console = Console(stderr=stderr, markup=False, emoji=False, highlight=False)
    if not console.is_terminal:
        console.width = _LOG_WIDTH
    return console


console = _console(stderr=False)
_errors = _console(stderr=True)


def say(text: str, *, style: str | None = None) -> None:
    """Prints *text* as it is, without breaking its lines."""
    console.print(text, style=style, soft_wrap=True)


def write(pieces: Iterable[str]) -> bool:
    """Prints *pieces* as they come, and a line break after them; tells whether there were any."""
    written = False
    try:
        for piece in pieces:
            written = True
            console.out(plain(piece), end="", highlight=False)
    finally:
        # So that why it failed stands on a line of its own.
        if written:
            console.out()
    return written


def complain(*lines: str) -> None:
    """Prints *lines* on standard error."""
    for line in lines:
        _errors.print(line, style="red", soft_wrap=True)


def log(line: str) -> None:
    """Prints a line of another program's log on standard error."""
    _errors.print(plain(line), soft_wrap=True)


def candidate(quoted: QuoteCandidate) -> str:
    """Says in a line what a call would cost at one model, or why that would be passed over."""
    line = (
        f"{plain(quoted.model)}: {dollars(quoted.expected_cost_nano_usd)} expected, "
        f"{dollars(quoted.max_cost_nano_usd)} at most, {quoted.image_token_count} image tokens"
    )
    return f"{line} · passed over: {quoted.skip_reason}" if quoted.skip_reason else line


def answer(rpc: str, response: Any) -> str:
    """Says in a few lines what *response* of *rpc* answers."""
    match rpc:
        case "Detect":
            text = "\n".join(map(_detection, response.detections)) or "(no object found)"
        case "Classify":
            text = "\n".join(f"{each.label}{_score(each)}" for each in response.labels) or "(no label)"
        case "OCR":
            lines = "\n".join(f"{each.text}{_score(each)}" for each in response.lines)
            text = lines or response.text or "(no text found)"
        case "VQA":
            text = response.answer
        case _:
            text = response.text
    return plain(text)


def model(info: CallInfo) -> str:
    """Names who answered, and who was asked before."""
    earlier = [f"{attempt.model}: {attempt.reason}" for attempt in info.attempts[:-1]]
    return plain(f"{info.model} (after {', '.join(earlier)})" if earlier else info.model)


def latency(info: CallInfo) -> str:
    """Says how long the call took, in milliseconds."""
    return f"{info.timing.total.ToMicroseconds() / 1000:.0f} ms"


def cost(info: CallInfo) -> str:
    """Says what the call cost, to the last nano-dollar."""
    from visiongateway.v1.call_pb2 import COST_BASIS_ESTIMATED  # noqa: PLC0415  `--help` should not wait

    about = "about " if info.cost_basis == COST_BASIS_ESTIMATED else ""
    return about + dollars(info.cost_nano_usd)


def listed(found: Model) -> str:
    """Says in a line what *found* is, whether it can be asked, for what, and for how much."""
    from visiongateway.v1.model_pb2 import ModelState  # noqa: PLC0415  `--help` should not wait

    state = ModelState.Name(found.state).removeprefix("MODEL_STATE_").replace("_", " ").lower()
    given, price = found.price, "free"
    if not given.free:
        per_million = [given.input_nano_usd_per_token * 1_000_000, given.output_nano_usd_per_token * 1_000_000]
        price = f"{' / '.join(map(dollars, per_million))} per 1M tokens in / out"
    what = f"{found.backend}, {found.family}" if found.family else found.backend
    return plain(f"{found.name}  {state} · {what} · {', '.join(found.tasks)} · {price}")


def route(found: Route) -> str:
    """Says in a line whom *found* leads to, and how the first of them is chosen."""
    escalates = ", escalates" if found.escalates else ""
    return plain(f"route {found.name}: {', '.join(found.models)} (by {found.choose}{escalates})")


def problem(error: VisionError) -> list[str]:
    """Says in one line why a call failed, in one more each what is wrong with each of several fields."""
    name = error.reason or error.code.name
    listed = [f"{each.field}: {each.description}" for each in error.violations]
    message: str | None = error.message
    if listed and (message == error.violations[0].description or error.message.startswith(listed[0][:40])):
        message = None  # It says the same as the list.
    match listed, message:
        case [only], None:
            lines = [f"{name}: {only}"]
        case _, None:
            lines = [f"{name}: {len(listed)} fields are wrong", *(f"  {each}" for each in listed)]
        case _:
            lines = [f"{name}: {message}", *(f"  {each}" for each in listed)]
    if error.retry_after is not None:
        lines.append(f"  Try again in {error.retry_after:g} s.")
    if error.cost_nano_usd:
        lines.append(f"  It cost {dollars(error.cost_nano_usd)} all the same.")
    return [plain(line) for line in lines]


def dollars(nano_usd: int) -> str:
    """Writes *nano_usd* in dollars, to the last digit."""
    return f"${Decimal(nano_usd).scaleb(-9).normalize():f}"


def _detection(each: Any) -> str:
    box = each.box
    return f"{each.label}{_score(each)}  x {box.x_min:.3f}-{box.x_max:.3f}, y {box.y_min:.3f}-{box.y_max:.3f}"


def _score(each: Any) -> str:
    return f" {each.score:.2f}" if each.HasField("score") else ""


def plain(text: str) -> str:
    """Takes from *text* what a terminal would obey."""
    return text.translate(_CONTROLS)
