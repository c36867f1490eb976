"""Says in the gateway's words what went wrong at Triton.

Triton fails in two ways. With `triton_grpc_error` a model's own errors end the stream with a gRPC status; what Triton's
core rejects comes as an `error_message` inside the stream, without a code. Both are read by the one table below.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from grpc import StatusCode

from gateway.errors import (
    BackendUnavailable,
    DeadlineExceeded,
    GatewayError,
    InvalidImage,
    Overloaded,
    UnsupportedByModel,
    UpstreamAuth,
)

if TYPE_CHECKING:
    from collections.abc import Callable


class Failure(NamedTuple):
    """A failure at Triton: *error* for the caller, *hint* for the operator's log.

    *unhealthy* says that the model's process has died. Triton 24.10 neither restarts it nor stops calling it ready.
    *gone* says that the server itself may have gone, and may come back with another model.
    """

    error: GatewayError
    hint: str = ""
    unhealthy: bool = False
    gone: bool = False


class _Row(NamedTuple):
    codes: frozenset[StatusCode | None]
    says: str
    error: Callable[[], GatewayError]
    hint: str = ""
    unhealthy: bool = False
    gone: bool = False


def _unavailable() -> GatewayError:
    return BackendUnavailable("the model cannot be reached or does not work")


_ANY: frozenset[StatusCode | None] = frozenset({None, *StatusCode})
_CORE: frozenset[StatusCode | None] = frozenset({None, StatusCode.INVALID_ARGUMENT})

# The first row whose code and words fit decides. `says` is sought in Triton's text, which goes no further than here.
_TABLE = (
    _Row(
        _ANY,
        r"is not healthy",
        _unavailable,
        "the model's process has died; Triton must load the model again",
        unhealthy=True,
    ),
    _Row(
        frozenset({StatusCode.DEADLINE_EXCEEDED}),
        "",
        lambda: DeadlineExceeded("the model did not answer in the time that was left"),
    ),
    _Row(
        frozenset({StatusCode.RESOURCE_EXHAUSTED}),
        r"larger than max",
        lambda: UnsupportedByModel("the images are larger than the model is sent", metadata={"limit": "bytes"}),
        "a message is larger than max_message_mib",
    ),
    _Row(
        frozenset({StatusCode.RESOURCE_EXHAUSTED}),
        "",
        lambda: Overloaded("the model is working on as many calls as it takes"),
    ),
    _Row(frozenset({StatusCode.UNIMPLEMENTED}), "", _unavailable, "the server does not speak the contract"),
    _Row(
        frozenset({StatusCode.UNAUTHENTICATED, StatusCode.PERMISSION_DENIED}),
        "",
        lambda: UpstreamAuth("the model's server refused this gateway's credentials"),
        "the server refused the gateway's credentials",
    ),
    # Written by Triton's core about a tensor, such as `image_bytes`, and so never about what is in an image.
    _Row(
        _CORE, r"\b(inference )?(input|output) '|byte size|batch-byte", _unavailable, "the request breaks the contract"
    ),
    _Row(
        frozenset({StatusCode.INVALID_ARGUMENT}),
        r"\bimages?\b",
        lambda: InvalidImage("the model cannot decode the image", limit="decode"),
    ),
    _Row(
        frozenset({StatusCode.INVALID_ARGUMENT}),
        "",
        lambda: UnsupportedByModel("the model does not take this request"),
        "the model refused the request",
    ),
    _Row(frozenset({StatusCode.UNAVAILABLE}), "", _unavailable, gone=True),
    # What is left is a fault of the server or its model, such as INTERNAL; another model may well do better.
    _Row(_ANY, "", _unavailable, "the model failed"),
)


def failure(code: StatusCode | None, text: str) -> Failure:
    """Reads a gRPC status, or with no *code* an in-stream `error_message`."""
    row = next(row for row in _TABLE if code in row.codes and re.search(row.says, text, re.IGNORECASE))
    return Failure(row.error(), row.hint, row.unhealthy, row.gone)
