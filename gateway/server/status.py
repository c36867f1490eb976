"""Turns a failure into what its caller gets: a `google.rpc.Status` and trailing metadata.

Statuses are kept small. Trailing metadata over 8 KiB may be refused by the caller's gRPC library, and the refusal
then hides the code; https://github.com/grpc/grpc/blob/master/include/grpc/impl/channel_arg_names.h
(GRPC_ARG_MAX_METADATA_SIZE).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from google.rpc import error_details_pb2, status_pb2

from gateway.errors import DOMAIN, InvalidField, InvalidImage, QuotaExceeded, UpstreamAccount

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from gateway.errors import GatewayError, Violation

# Bytes of a whole status, as it goes over the wire before base64 adds its third.
_LARGEST = 4096
# Bytes of a message in UTF-8; percent-encoding makes up to three of one.
_LONGEST_MESSAGE = 512
_LONGEST_DESCRIPTION = 256
# https://google.aip.dev/193 bounds keys to 64 characters.
_LONGEST_KEY = 64
_LONGEST_VALUE = 128
_MOST_METADATA = 8
# Seconds; whoever has to wait longer for a quota is told not to try again by itself.
_LONGEST_PUSHBACK_S = 60.0


def of(error: GatewayError) -> status_pb2.Status:
    """Gives the status of *error*: one `ErrorInfo`, and other details where they apply; at most 4 KiB.

    Violations that do not fit are left out, and the `ErrorInfo`'s metadata `violations_left_out` counts them.
    """
    status = status_pb2.Status(code=error.code.value[0], message=_cut(str(error), _LONGEST_MESSAGE))
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN)
    for key, value in list(error.metadata.items())[:_MOST_METADATA]:
        info.metadata[_cut(key, _LONGEST_KEY)] = _cut(value, _LONGEST_VALUE)
    details: list[Message] = [info]
    if error.retry_after_s is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromMilliseconds(_milliseconds(error.retry_after_s))
        details.append(retry)
    if isinstance(error, QuotaExceeded):
        quota = error_details_pb2.QuotaFailure()
        quota.violations.add(
            subject=_cut(error.subject, _LONGEST_VALUE), description=_cut(str(error), _LONGEST_DESCRIPTION)
        )
        details.append(quota)
    if isinstance(error, InvalidField | InvalidImage):
        # Room for the packing of three details, and for the count of those left out.
        room = _LARGEST - status.ByteSize() - sum(detail.ByteSize() for detail in details) - 256
        bad_request, left_out = _bad_request(error.violations, room)
        if left_out:
            info.metadata["violations_left_out"] = str(left_out)
        details.append(bad_request)
    for detail in details:
        status.details.add().Pack(detail)
    return status


def trailers(error: GatewayError, status: status_pb2.Status) -> list[tuple[str, str | bytes]]:
    """Gives the metadata that carries *status*, and tells the caller's gRPC library when to come back, if ever.

    https://github.com/grpc/proposal/blob/master/A6-client-retries.md: a negative pushback forbids a retry. It also
    counts against the caller's retry budget, so it is not for what no client retries anyway, such as wrong requests.
    """
    found: list[tuple[str, str | bytes]] = [("grpc-status-details-bin", status.SerializeToString())]
    if isinstance(error, QuotaExceeded) and (error.retry_after_s or 0.0) > _LONGEST_PUSHBACK_S:
        found.append(("grpc-retry-pushback-ms", "-1"))
    elif error.retry_after_s is not None:
        found.append(("grpc-retry-pushback-ms", str(_milliseconds(error.retry_after_s))))
    elif isinstance(error, UpstreamAccount):
        found.append(("grpc-retry-pushback-ms", "-1"))
    return found


def _bad_request(violations: tuple[Violation, ...], room: int) -> tuple[error_details_pb2.BadRequest, int]:
    bad_request = error_details_pb2.BadRequest()
    for index, violation in enumerate(violations):
        bad_request.field_violations.add(
            field=_cut(violation.field, _LONGEST_VALUE),
            description=_cut(violation.description, _LONGEST_DESCRIPTION),
        )
        if bad_request.ByteSize() > room:
            del bad_request.field_violations[index]
            return bad_request, len(violations) - index
    return bad_request, 0


def _cut(text: str, longest: int) -> str:
    # A lone surrogate has no UTF-8; it may come from the answer of a model.
    encoded = text.encode("utf-8", "replace")
    if len(encoded) <= longest:
        return encoded.decode()
    return encoded[: longest - 3].decode("utf-8", "ignore") + "…"


def _milliseconds(seconds: float) -> int:
    return max(round(seconds * 1000), 0)
