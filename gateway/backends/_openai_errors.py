"""Says in the gateway's words what went wrong at OpenAI.

A failure comes as an HTTP status or inside a 200 whose `status` is `failed`; both carry an error code, and both are
read by the one table below. The codes are those of `openai.types.responses.ResponseError` and of the guide at
https://developers.openai.com/api/docs/guides/error-codes.
"""

from __future__ import annotations

import math
import time
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, NamedTuple

from gateway.errors import (
    BackendUnavailable,
    GatewayError,
    InvalidImage,
    Refused,
    UnsupportedByModel,
    UpstreamAccount,
    UpstreamAuth,
    UpstreamRateLimited,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# Status of a failure that came inside a 200.
INSIDE_200 = 200


class Failure(NamedTuple):
    """A failure at OpenAI: *error* for the caller, *hint* for the operator's log.

    *blocks* says that every other call fails alike until the operator acts.
    """

    error: GatewayError
    hint: str = ""
    blocks: bool = False


class _Row(NamedTuple):
    statuses: range | tuple[int, ...]
    codes: frozenset[str] | None
    error: Callable[[], GatewayError]
    hint: str = ""
    blocks: bool = False


def _image(message: str, limit: str) -> Callable[[], GatewayError]:
    return lambda: InvalidImage(message, limit=limit)


def _unavailable() -> GatewayError:
    return BackendUnavailable("the provider cannot answer now")


_ANY = range(100, 600)
_REFUSED = frozenset(
    {
        "image_content_policy_violation",
        "content_policy_violation",
        "content_filter",
        "bio_policy",
        "misalignment_policy_violation",
        # "Your prompt was flagged", in the provider's words.
        "invalid_prompt",
    }
)
_UNREADABLE = frozenset(
    {
        "invalid_image",
        "image_parse_error",
        # We send each image as a data URL, so these too speak of its bytes.
        "invalid_base64_image",
        "invalid_image_url",
        "failed_to_download_image",
        "image_file_not_found",
    }
)

# The first row whose status and code fit decides; no codes are all codes.
_TABLE = (
    _Row(_ANY, _UNREADABLE, _image("the model cannot read the image", "decode")),
    _Row(
        _ANY,
        frozenset({"invalid_image_format", "unsupported_image_media_type", "invalid_image_mode"}),
        _image("the model does not take images of this kind", "format"),
    ),
    _Row(_ANY, frozenset({"image_too_large"}), _image("the image has more pixels than the model takes", "pixels")),
    _Row(_ANY, frozenset({"image_too_small"}), _image("the image is smaller than the model takes", "side")),
    _Row(_ANY, frozenset({"image_file_too_large"}), _image("the image has more bytes than the model takes", "bytes")),
    _Row(_ANY, frozenset({"empty_image_file"}), _image("the image is empty", "empty")),
    _Row(_ANY, _REFUSED, lambda: Refused("the provider refused the image or the question")),
    _Row(
        _ANY,
        frozenset({"context_length_exceeded"}),
        lambda: UnsupportedByModel("the request is longer than the model can read", metadata={"limit": "context"}),
    ),
    _Row(
        _ANY,
        frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"}),
        lambda: UpstreamAccount("the gateway's account at the provider has no credit"),
        "the account at the provider has no credit",
        blocks=True,
    ),
    # 402 is what some compatible providers say; OpenAI itself says 429 with a code of the row above.
    _Row(
        (402,),
        None,
        lambda: UpstreamAccount("the gateway's account at the provider has no credit"),
        "the account at the provider has no credit",
        blocks=True,
    ),
    _Row(
        _ANY,
        frozenset({"rate_limit_exceeded"}),
        lambda: UpstreamRateLimited("the provider's rate limit for this gateway is reached"),
    ),
    _Row((429,), None, lambda: UpstreamRateLimited("the provider's rate limit for this gateway is reached")),
    _Row(
        (401, 403),
        None,
        lambda: UpstreamAuth("the provider refused the gateway's credentials"),
        "the provider refused the key, or the key's project may not use the model",
        blocks=True,
    ),
    _Row((404,), None, _unavailable, "the provider knows no such model, or base_url is wrong", blocks=True),
    _Row(
        (413,),
        None,
        lambda: UnsupportedByModel("the images are larger than the provider takes", metadata={"limit": "bytes"}),
    ),
    # The same request would fail again, so nobody shall retry it here, and it says nothing about the provider's
    # health; another model may take it. Where our own encoding is at fault, the log tells the operator.
    _Row(
        (400, 422),
        None,
        lambda: UnsupportedByModel("the model does not take this request"),
        "the provider refused the form of the request",
    ),
    _Row(_ANY, None, _unavailable),
)


def failure(status: int, code: str, headers: Mapping[str, str], *, now: Callable[[], float] = time.time) -> Failure:
    """Reads an HTTP status, or `INSIDE_200`, with the error code that came along, which may be empty.

    *now* gives the time in seconds since the epoch, for a `retry-after` that is a date.
    """
    row = next(row for row in _TABLE if status in row.statuses and (row.codes is None or code in row.codes))
    error = row.error()
    if isinstance(error, UpstreamRateLimited | BackendUnavailable):
        error.retry_after_s = _retry_after_s(headers, now)
    return Failure(error, row.hint, row.blocks)


def _retry_after_s(headers: Mapping[str, str], now: Callable[[], float]) -> float | None:
    if (ms := _seconds(headers.get("retry-after-ms"))) is not None:
        return ms / 1000
    value = headers.get("retry-after")
    if (seconds := _seconds(value)) is not None:
        return seconds
    try:
        return max(0.0, parsedate_to_datetime(value or "").timestamp() - now())
    except ValueError:
        return None


def _seconds(value: str | None) -> float | None:
    try:
        number = float(value or "")
    except ValueError:
        return None
    return number if math.isfinite(number) and number >= 0 else None
