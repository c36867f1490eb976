"""Calls that are made of several asks at once: each ends by itself, and the call's record has all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gateway import tracing
from gateway.domain import Trace
from gateway.errors import GatewayError
from gateway.server import bug

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gateway.domain import Ask
    from gateway.pipeline import Call, Pipeline

# Of the time that a call has, what is kept for its last message: the parts that are late have to end before it does.
_KEPT_SHARE = 0.05
_KEPT_S = (0.05, 1.0)


def deadline(call: Call) -> float:
    """Gives the time by which all parts of *call* must have ended: a twentieth earlier than itself, 50 ms to 1 s."""
    given_s = call.deadline - call.received_at
    least, most = _KEPT_S
    return call.deadline - min(max(given_s * _KEPT_SHARE, least), most, given_s / 2)


async def outcome(pipeline: Pipeline, ask: Ask, call: Call, rpc: str) -> Any | GatewayError:
    """Gives the response to *ask*, one part of a *call* of *rpc*, or what it failed with: never more than itself."""
    try:
        with tracing.span(f"part {ask.query.rpc}"):
            return await pipeline.answer(ask, call.received_at)
    except GatewayError as exc:
        # Its traceback leads back here: a cycle would keep the call's images until the collector runs.
        return exc.with_traceback(None)
    except Exception as exc:  # noqa: BLE001  whatever it is, its text stays here
        return bug.told(exc, rpc=rpc, request_id=call.request_id)


def note(call: Call, parts: Iterable[Trace]) -> None:
    """Puts on the record of *call* every attempt of its *parts*, and where the time went of the one that took longest.

    They ran at once: the sum of their times would be more than there was.
    """
    traces = list(parts)
    for part in traces:
        call.trace.attempts += part.attempts
    longest = max(traces, key=lambda part: part.queue_s + part.image_s + part.upstream_s, default=Trace())
    call.trace.queue_s += longest.queue_s
    call.trace.image_s += longest.image_s
    call.trace.upstream_s += longest.upstream_s
