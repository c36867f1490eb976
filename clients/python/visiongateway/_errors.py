"""Every failure that a call can end in.

VisionError
├── InvalidRequest        the request is wrong; the same one never succeeds
├── UnknownModel          no such model or route at this gateway
├── UnknownDigest         the gateway no longer has the image that was named by its digest
├── AccessDenied          credentials missing, or not enough; an address the gateway may not fetch
├── LimitExceeded         the caller's budget or rate is spent, or the message is bigger than the gateway takes
├── Unsupported           no model of the route can do what was asked
├── CostAboveLimit        every model would cost more than the caller allows
├── Refused               the model, or its provider's filter, refused
├── UnusableAnswer        the model answered, but not in a form that can be used
├── Unavailable           the gateway or its models cannot take the call now; try again
└── DeadlineExceeded      the time given was not enough
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2

T = TypeVar("T", bound=Message)


@dataclass(frozen=True, slots=True)
class Violation:
    """What is wrong with one field of the request, or which quota is spent.

    *field* is the field's path, such as `labels[3]`, or the subject of the quota.
    """

    field: str
    description: str


class VisionError(Exception):
    """Base of every failure of a call; `str()` gives its reason and message.

    Attributes:
        code: Status code of the call.
        reason: What happened, as one word of a closed set, such as `INVALID_IMAGE`. Empty when the failure was not
            told by a gateway: no connection, a deadline that ended at the client, a proxy.
        message: What happened, for people.
        metadata: More about it, such as the limit that was hit.
        violations: Every wrong field of the request, or every spent quota.
        retry_after: Seconds after which a new try makes sense; None when the gateway does not tell.
        request_id: Identifier of the call, as it stands in the gateway's log.
        cost_nano_usd: What the call cost although it failed, in nano US dollars (10^-9 USD).
        model: Model that was asked last; empty when none was, or when it is not known.
        partial_text: What had come of a streamed answer before it failed.
    """

    code: grpc.StatusCode = grpc.StatusCode.UNKNOWN
    reason: str = ""
    metadata: dict[str, str]
    violations: tuple[Violation, ...] = ()
    retry_after: float | None = None
    request_id: str = ""
    cost_nano_usd: int = 0
    model: str = ""
    partial_text: str = ""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message
        self.metadata = {}

    def __str__(self) -> str:
        return f"{self.reason or self.code.name}: {self.message}"


class InvalidRequest(VisionError):
    """The request is wrong, and `violations` lists where; the same one never succeeds."""


class UnknownModel(VisionError):
    """The gateway has no model or route of this name."""


class UnknownDigest(VisionError):
    """The gateway does not have the image that was named by its digest, or no longer; its bytes must be sent.

    Raised only for digests that the caller gave: the client sends the bytes after its own by itself.
    """


class AccessDenied(VisionError):
    """Credentials are missing or not enough, or the image's address is one that the gateway may not fetch."""


class LimitExceeded(VisionError):
    """The caller's budget or rate is spent, or the message is bigger than the gateway takes."""


class Unsupported(VisionError):
    """No model of the route can do what was asked; the message says what cannot be done and what can."""


class CostAboveLimit(VisionError):
    """Every model of the route would cost more than the call allows."""


class Refused(VisionError):
    """The model, or its provider's content filter, refused."""


class UnusableAnswer(VisionError):
    """The model's answer was cut off or did not have the form that the call needs."""


class Unavailable(VisionError):
    """The gateway or its models cannot take the call now, or went away during it; another try may succeed.

    The client has tried several times already, unless the gateway asked it not to.
    """


class DeadlineExceeded(VisionError):
    """The time given was not enough."""


_BY_REASON: dict[str, type[VisionError]] = {
    "COST_ABOVE_LIMIT": CostAboveLimit,
    "REFUSED": Refused,
    "TRUNCATED_ANSWER": UnusableAnswer,
    "UNKNOWN_DIGEST": UnknownDigest,
    "UNKNOWN_MODEL": UnknownModel,
    "UNSUPPORTED_BY_MODEL": Unsupported,
    "UNUSABLE_ANSWER": UnusableAnswer,
}
_BY_CODE: dict[grpc.StatusCode, type[VisionError]] = {
    # Raised for calls that the other side cancelled: a server that stops cuts off what is on the wire.
    grpc.StatusCode.CANCELLED: Unavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequest,
    grpc.StatusCode.PERMISSION_DENIED: AccessDenied,
    grpc.StatusCode.RESOURCE_EXHAUSTED: LimitExceeded,
    grpc.StatusCode.UNAUTHENTICATED: AccessDenied,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
}


_CODES: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}


class FailedCall(Protocol):
    """What the synchronous and the asyncio library both tell about a failed call."""

    def code(self) -> grpc.StatusCode: ...
    def details(self) -> str | None: ...
    def trailing_metadata(self) -> Iterable[Any] | None: ...  # Pairs; the libraries' own types for them differ.


def decode(call: FailedCall, request_id: str) -> VisionError:
    """Makes the error of a failed call from its status, its details and its trailing metadata.

    Never raises: details that cannot be read, from a proxy or a newer gateway, are left out.
    """
    trailers: dict[str, str | bytes] = dict(call.trailing_metadata() or ())
    status = status_pb2.Status()
    encoded = trailers.get("grpc-status-details-bin")
    if isinstance(encoded, bytes):
        _read(status, encoded)
    error = _error(call.code(), call.details(), _Details(status))
    error.request_id = _text(trailers, "x-request-id") or request_id
    error.model = _text(trailers, "x-vision-model")
    cost = _text(trailers, "x-vision-cost-nano-usd")
    error.cost_nano_usd = int(cost) if cost.isdecimal() else 0
    return error


def from_status(status: status_pb2.Status) -> VisionError:
    """Makes the error that *status* tells, of a part of a call that succeeded as a whole."""
    return _error(_CODES.get(status.code, grpc.StatusCode.UNKNOWN), status.message, _Details(status))


def cut_off(request_id: str) -> VisionError:
    """Makes the error of a stream that ended well, but without what its last message has."""
    error = UnusableAnswer("the stream ended before the whole answer came")
    error.code = grpc.StatusCode.DATA_LOSS
    error.request_id = request_id
    return error


def _error(code: grpc.StatusCode, message: str | None, details: _Details) -> VisionError:
    info = details.get(error_details_pb2.ErrorInfo)
    kind = _BY_REASON.get(info.reason) or _BY_CODE.get(code, VisionError)
    error = kind(message or "no message")
    error.code = code
    error.reason = info.reason
    error.metadata = dict(info.metadata)
    error.violations = (
        *(Violation(v.field, v.description) for v in details.get(error_details_pb2.BadRequest).field_violations),
        *(Violation(v.subject, v.description) for v in details.get(error_details_pb2.QuotaFailure).violations),
    )
    retry = details.get(error_details_pb2.RetryInfo)
    if retry.HasField("retry_delay"):
        error.retry_after = retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9
    return error


class _Details:
    """The details of a `google.rpc.Status`, by type."""

    def __init__(self, status: status_pb2.Status) -> None:
        self._status = status

    def get(self, kind: type[T]) -> T:
        """Gives the first detail of *kind*, an empty one when there is none."""
        found = kind()
        for detail in self._status.details:
            if detail.Is(found.DESCRIPTOR):
                _read(found, detail.value)
                break
        return found


def _read(message: Message, encoded: bytes) -> None:
    try:
        message.ParseFromString(encoded)
    except DecodeError:
        message.Clear()


def _text(trailers: dict[str, str | bytes], key: str) -> str:
    value = trailers.get(key, "")
    return value if isinstance(value, str) else ""
