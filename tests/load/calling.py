"""Makes one call on the wire, message by message, and tells how it ended for its caller."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.rpc import error_details_pb2, status_pb2

from tests.load.mixed_calls import TASKS, Call
from visiongateway.v1 import call_pb2, vision_service_pb2 as pb

_SERVICE = "/visiongateway.v1.VisionService"
GONE = "gone"


@dataclass
class Told:
    """How one call ended; what its caller was not told is None."""

    call: Call
    code: str
    reason: str = ""
    cost_nano_usd: int | None = None
    # Of the answer to a task, who was asked and with which reason that failed, empty where it did not.
    attempts: Counter[tuple[str, str]] | None = None
    wrong: list[str] = field(default_factory=list)

    @property
    def gave_up(self) -> bool:
        """Whether the caller ended it, by a cancellation or by its own clock."""
        return self.code == GONE or (self.code == "DEADLINE_EXCEEDED" and not self.reason)


async def make(channel: grpc.aio.Channel, call: Call) -> Told:
    """Makes *call*."""
    make_it = channel.unary_stream if call.is_stream else channel.unary_unary
    made = make_it(f"{_SERVICE}/{call.rpc}")(call.message, timeout=call.timeout_s, metadata=call.metadata)
    if call.cancel_after_s is not None:
        asyncio.get_running_loop().call_later(call.cancel_after_s, made.cancel)
    try:
        raw = [message async for message in made] if call.is_stream else [await made]
    except asyncio.CancelledError:
        return Told(call, GONE)
    except grpc.aio.AioRpcError as error:
        return _failed(call, error)
    trailers = dict(await made.trailing_metadata())
    told = Told(call, "OK", cost_nano_usd=int(trailers["x-vision-cost-nano-usd"]))
    if trailers["x-request-id"] != call.request_id:
        told.wrong.append("another request id")
    _read(told, raw)
    return told


def _failed(call: Call, error: grpc.aio.AioRpcError) -> Told:
    trailers = dict(error.trailing_metadata() or ())
    status = status_pb2.Status.FromString(trailers.get("grpc-status-details-bin", b""))
    info = error_details_pb2.ErrorInfo()
    for detail in status.details:
        detail.Unpack(info)
    cost = trailers.get("x-vision-cost-nano-usd")
    told = Told(call, error.code().name, info.reason, None if cost is None else int(cost))
    if info.reason and status.code != error.code().value[0]:
        told.wrong.append("a code in the details that is not the call's")
    return told


def _read(told: Told, raw: list[bytes]) -> None:
    """Notes what an answer says of itself, and whether it is one whole answer."""
    rpc, kind = told.call.rpc, getattr(pb, f"{told.call.rpc}Response")
    *before, last = [kind.FromString(each) for each in raw]
    if rpc == "Compare":
        told.wrong += _of_parts(before)
        if not last.HasField("agreement") or any(each.HasField("agreement") for each in before):
            told.wrong.append("not one agreement, at the end")
    elif rpc.startswith("Stream"):
        if not last.HasField("answer") or any(each.HasField("answer") for each in before):
            told.wrong.append("not one answer, at the end")
        _read_info(told, last.answer.info)
    elif rpc == "Annotate":
        told.wrong += _of_parts(last.results)
        if last.cost_nano_usd != told.cost_nano_usd:
            told.wrong.append("another cost in the trailers")
    elif rpc in TASKS:
        _read_info(told, last.info)


def _of_parts(parts: Iterable[Any]) -> list[str]:
    return ["not one of answer and status" for part in parts if part.HasField("answer") == part.HasField("status")]


def _read_info(told: Told, info: call_pb2.CallInfo) -> None:
    if info.cost_nano_usd != told.cost_nano_usd:
        told.wrong.append("another cost in the trailers")
    told.attempts = Counter(
        (attempt.model, "" if attempt.outcome == call_pb2.ATTEMPT_OUTCOME_OK else attempt.reason)
        for attempt in info.attempts
        if attempt.outcome != call_pb2.ATTEMPT_OUTCOME_SKIPPED
    )
