"""Writes answers for people: one table row or a few lines, with who answered, how long it took and what it cost."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from rich.console import Console

if TYPE_CHECKING:
    from visiongateway.v1.call_pb2 import CallInfo

# A log has no width; tables in it should not be squeezed into 80 columns.
_LOG_WIDTH = 140


def _console(*, stderr: bool) -> Console:
    console = Console(stderr=stderr)
    return console if console.is_terminal else Console(stderr=stderr, width=_LOG_WIDTH)


console = _console(stderr=False)
errors = _console(stderr=True)


def answer(rpc: str, response: Any) -> str:
    """Says in a few lines what *response* of *rpc* answers."""
    match rpc:
        case "Detect":
            return "\n".join(map(_detection, response.detections)) or "(no object found)"
        case "Classify":
            return "\n".join(f"{each.label}{_score(each)}" for each in response.labels) or "(no label)"
        case "OCR":
            lines = "\n".join(f"{each.text}{_score(each)}" for each in response.lines)
            return lines or response.text or "(no text found)"
        case "VQA":
            return str(response.answer)
        case _:
            return str(response.text)


def model(info: CallInfo) -> str:
    """Names who answered, and who was asked before."""
    earlier = [f"{attempt.model}: {attempt.reason}" for attempt in info.attempts[:-1]]
    return f"{info.model} (after {', '.join(earlier)})" if earlier else info.model


def latency(info: CallInfo) -> str:
    """Says how long the call took, in milliseconds."""
    return f"{info.timing.total.ToMicroseconds() / 1000:.0f} ms"


def cost(info: CallInfo) -> str:
    """Says what the call cost, to the last nano-dollar."""
    return f"${Decimal(info.cost_nano_usd).scaleb(-9).normalize():f}"


def _detection(each: Any) -> str:
    box = each.box
    return f"{each.label}{_score(each)}  x {box.x_min:.3f}-{box.x_max:.3f}, y {box.y_min:.3f}-{box.y_max:.3f}"


def _score(each: Any) -> str:
    return f" {each.score:.2f}" if each.HasField("score") else ""
