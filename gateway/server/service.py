"""Binds every RPC of the proto to its method, and takes each call from its headers to its answer."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from functools import partial
from string import punctuation
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import grpc
from grpc import StatusCode

from gateway import tracing
from gateway.domain import Trace
from gateway.errors import DeadlineExceeded, GatewayError, InvalidImage, Unauthenticated, UnknownMethod
from gateway.pipeline import Call
from gateway.rights import Rights
from gateway.server import access, body, bug, correlation, status
from gateway.server.identity import credentials
from gateway.server.parse import parse
from visiongateway.v1 import vision_service_pb2

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager

    from google.protobuf.message import Message

    from gateway.domain import Clock, Options
    from gateway.metrics import Metrics
    from gateway.server.admission import Admission, Seat
    from gateway.server.connections import Connections
    from gateway.server.methods import Method
    from gateway.server.turnstile import Turnstile
    from gateway.settings import ServerSettings

    Context = grpc.aio.ServicerContext[Any, Any]
    _Handler = grpc.RpcMethodHandler[Any, Any]

SERVICE = vision_service_pb2.DESCRIPTOR.services_by_name["VisionService"]
RPCS = tuple(method.name for method in SERVICE.methods)

# A caller's own deadline may reach us as its cancellation, a little before the time is up by our clock: gRPC rounds
# deadlines up on the wire (https://github.com/grpc/grpc/blob/master/src/core/lib/transport/timeout_encoding.cc).
_DEADLINE_SLACK_S = 0.05
_DEADLINE_SLACK_SHARE = 0.01

_EVERYTHING = Rights()

_HANDLERS = {False: grpc.stream_unary_rpc_method_handler, True: grpc.stream_stream_rpc_method_handler}


@dataclass(frozen=True, slots=True)
class Serving:
    """What calls are answered with, until the settings change; each call has one of it from its headers to its end."""

    methods: Mapping[str, Method]
    turnstile: Turnstile
    settings: ServerSettings
    # Of the principals that are configured; whoever else comes in may do all there is.
    rights: Mapping[str, Rights] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raises LookupError unless there is one method for each RPC of the proto."""
        names = {method.name for method in SERVICE.methods}
        if names != self.methods.keys():
            raise LookupError(f"proto and methods differ: {', '.join(sorted(names ^ self.methods.keys()))}")


class Service(grpc.GenericRpcHandler):
    """The VisionService.

    Every RPC is registered as if its requests were streamed, which looks the same on the wire, because grpc.aio calls
    the handler of a unary request only after its body is in: until then it could neither be refused nor timed out.
    """

    def __init__(
        self,
        current: Callable[[], AbstractContextManager[Serving]],
        *,
        admission: Admission,
        metrics: Metrics,
        clock: Clock,
        tracer: tracing.Tracer | None = None,
        connections: Connections | None = None,
    ) -> None:
        """*current* gives what a call that begins now is answered with; its context lasts as long as the call.

        *connections* notes what calls come on; None in plain text.
        """
        self._current = current
        self._admission = admission
        self._metrics = metrics
        self._clock = clock
        self._tracer = tracer
        self._connections = connections
        self._handlers: dict[str, _Handler] = {
            f"/{SERVICE.full_name}/{method.name}": _HANDLERS[method.server_streaming](partial(self._serve, method.name))
            for method in SERVICE.methods
        }
        self._unknown: _Handler = grpc.stream_unary_rpc_method_handler(partial(self._serve, None))

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> _Handler | None:
        """Finds the handler of a method; methods that the service does not have are answered and counted too."""
        method = handler_call_details.method
        if not method.startswith(f"/{SERVICE.full_name}/"):
            return None
        return self._handlers.get(method, self._unknown)

    async def _serve(self, rpc: str | None, _: object, context: Context) -> bytes | None:
        """Answers one call; whatever goes wrong is counted, logged, and told to the caller.

        Gives the one message of a unary call; those of a stream have been written.
        """
        if self._connections:
            self._connections.called(context)
        with tracing.call(self._tracer, rpc or "_OTHER", context.invocation_metadata()):
            return await self._answer_or_tell(rpc, context)

    async def _answer_or_tell(self, rpc: str | None, context: Context) -> bytes | None:
        record = access.Record(
            rpc=rpc or "unknown",
            request_id=correlation.request_id(context.invocation_metadata()),
            received_at=self._clock(),
            trace=Trace(),
        )
        allowed_s: float | None = context.time_remaining()
        try:
            with self._current() as serving:
                answer = await self._answer(serving, rpc, context, record, allowed_s)
        except asyncio.CancelledError as exc:
            self._gone(record, exc, allowed_s, context.time_remaining())
            raise
        except GatewayError as exc:
            # This frame outlives the call until the collector runs; without its traceback, the images do not.
            failure = exc.with_traceback(None)
            record.cause = exc.cause if isinstance(exc, Unauthenticated) else ""
        except Exception as exc:  # noqa: BLE001  whatever it is, its text stays here
            failure = bug.told(exc, rpc=record.rpc, request_id=record.request_id)
        else:
            self._ended(record, StatusCode.OK)
            context.set_trailing_metadata(_trailers(record))
            return answer
        if record.trace.committed:
            failure.metadata["partial"] = "true"
        self._ended(record, failure.code, failure.reason)
        told = status.of(failure)
        return await context.abort(failure.code, told.message, (*_trailers(record), *status.trailers(failure, told)))

    async def _answer(
        self, serving: Serving, rpc: str | None, context: Context, record: access.Record, allowed_s: float | None
    ) -> bytes | None:
        if rpc is None:
            raise UnknownMethod("the service has no such method")
        method, settings = serving.methods[rpc], serving.settings
        given_s = settings.default_deadline_s if allowed_s is None else allowed_s
        given_s = min(given_s, settings.max_deadline_s)
        async with (
            self._admission.admit() as seat,
            serving.turnstile.enter(
                credentials(context.invocation_metadata(), context.auth_context()), given_s
            ) as principal,
        ):
            record.principal = principal
            rights = serving.rights.get(principal, _EVERYTHING)
            rights.check_rpc(rpc)
            wait_s = min(settings.body_timeout_s, given_s)
            request, options = await self._receive(method, context, record, seat, wait_s)
            left_s = given_s - record.body_s
            seat.end_after(left_s, DeadlineExceeded(f"the time of this call, {given_s:g} s, is up"))
            call = Call(
                principal=principal,
                deadline=record.received_at + given_s,
                request_id=record.request_id,
                received_at=record.received_at,
                options=options,
                rights=rights,
                trace=record.trace,
            )
            emit = _Stream(context) if SERVICE.methods_by_name[rpc].server_streaming else _Reply()
            running = method.answer(request, call, emit)
            # Else the images stay in memory here too for as long as the model thinks.
            del request
            record.info = await running
            return emit.reply

    async def _receive(
        self, method: Method, context: Context, record: access.Record, seat: Seat, wait_s: float
    ) -> tuple[Any, Options]:
        """Reads the request within *wait_s* seconds, and checks it."""
        seat.end_after(wait_s, DeadlineExceeded(f"the body of this call did not arrive within {wait_s:g} s"))
        with tracing.span("receive"):
            raw = await body.read(context)
        self._admission.body_read(seat)
        record.body_s = self._clock() - record.received_at
        record.byte_count = len(raw)
        request = parse(raw, method.request)
        try:
            return request, method.check(request)
        except InvalidImage as exc:
            self._metrics.image_rejected(exc.limit)
            raise

    def _gone(self, record: access.Record, exc: BaseException, allowed_s: float | None, left_s: float | None) -> None:
        """Tells apart what all arrives as a cancellation."""
        if allowed_s is not None and left_s is not None and left_s <= _slack_s(allowed_s):
            self._ended(record, StatusCode.DEADLINE_EXCEEDED, DeadlineExceeded.reason)
        elif isinstance(exc, body.MessageTooLarge):
            self._ended(record, StatusCode.RESOURCE_EXHAUSTED, "MESSAGE_TOO_LARGE")
        else:
            self._ended(record, StatusCode.CANCELLED, "CANCELLED")

    def _ended(self, record: access.Record, code: StatusCode, reason: str = "") -> None:
        access.ended(record, self._metrics, code=code.name, reason=reason, now=self._clock())


@dataclass(slots=True)
class _Reply:
    """Keeps the one message of a unary call."""

    reply: bytes | None = None

    async def __call__(self, message: Message) -> None:
        self.reply = message.SerializeToString()


@dataclass(slots=True)
class _Stream:
    """Writes each message of a streamed call at once, and waits until the caller has room for it."""

    context: Context
    reply: bytes | None = None

    async def __call__(self, message: Message) -> None:
        try:
            await self.context.write(message.SerializeToString())
        except grpc.aio.InternalError:
            # So gRPC says that the caller has gone, when it says that before it takes the call back.
            raise asyncio.CancelledError from None


def _trailers(record: access.Record) -> tuple[tuple[str, str | bytes], ...]:
    return (
        (correlation.HEADER, record.request_id),
        # Metadata takes no more than printable ASCII; an operator's name for a model may be anything.
        ("x-vision-model", quote(record.model, safe=punctuation + " ")),
        ("x-vision-cost-nano-usd", str(record.cost_nano_usd)),
    )


def _slack_s(allowed_s: float) -> float:
    return max(_DEADLINE_SLACK_S, allowed_s * _DEADLINE_SLACK_SHARE)
