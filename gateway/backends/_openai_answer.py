"""Reads what the Responses API answered. Compatible servers leave out much: every field but the text may be absent."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, TypeVar

import orjson

from gateway.backends._openai_errors import INSIDE_200, failure
from gateway.domain import Completion, ServiceTier
from gateway.errors import (
    BackendUnavailable,
    BrokenOff,
    DeadlineExceeded,
    GatewayError,
    Refused,
    TruncatedAnswer,
    UnusableAnswer,
)
from gateway.usage import Usage

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gateway.domain import Prompt, SentImage

_ErrorT = TypeVar("_ErrorT", bound=GatewayError)
# "fast" is what "priority" is sold as, and "ultrafast" is dearer still. "scale" is paid for in advance.
_TIERS = {
    "default": ServiceTier.STANDARD,
    "scale": ServiceTier.STANDARD,
    "flex": ServiceTier.FLEX,
    "priority": ServiceTier.PRIORITY,
    "fast": ServiceTier.PRIORITY,
    "ultrafast": ServiceTier.PRIORITY,
}


def completion(content: bytes, prompt: Prompt, images: Sequence[SentImage], *, model: str) -> Completion:
    """Reads the body of a 200, which may tell of a failure all the same.

    Raises `UnusableAnswer` for what is no response, and what `read` raises.
    """
    try:
        response = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise estimated(UnusableAnswer("the provider's answer is not JSON"), prompt, images) from error
    if not isinstance(response, dict):
        raise estimated(UnusableAnswer("the provider's answer is not a response"), prompt, images)
    return read(response, prompt, images, model=model)


def read(response: dict[str, Any], prompt: Prompt, images: Sequence[SentImage], *, model: str) -> Completion:
    """Reads a whole response.

    Raises `Refused`, `TruncatedAnswer`, `UnusableAnswer` or what the error table gives, each with what it was billed.
    """
    parts = list(_parts(response))
    text = "".join(part["text"] for part in parts if isinstance(part.get("text"), str))
    told = _usage(response.get("usage"), images)
    tier = _tier(response.get("service_tier"), prompt)
    served = word(response, "model") or model
    if (flaw := _flaw(response, parts, text)) is not None:
        # A failure that says nothing of usage was not billed.
        flaw.usage = told or (None if response.get("status") == "failed" else estimate(prompt, images, text))
        flaw.service_tier = tier.value
        flaw.estimated = told is None
        flaw.provider_model = served
        raise flaw
    return Completion(
        text,
        told or estimate(prompt, images, text),
        provider_model=served,
        service_tier=tier,
        estimated=told is None,
    )


def estimate(prompt: Prompt, images: Sequence[SentImage], text: str = "") -> Usage:
    """Counts tokens ourselves: images by the model's published rule, text at four bytes of UTF-8 a token.

    Four characters a token is the provider's own rule of thumb for English; bytes serve other scripts better.
    """
    schema = orjson.dumps(prompt.schema) if prompt.schema is not None else b""
    read = len(prompt.system.encode()) + len(prompt.user.encode()) + len(schema)
    return Usage(
        input_text=math.ceil(read / 4),
        input_image=sum(image.plan.token_count for image in images),
        output=math.ceil(len(text.encode()) / 4),
    )


def estimated(error: _ErrorT, prompt: Prompt, images: Sequence[SentImage], text: str = "") -> _ErrorT:
    """Gives *error* the bill that is to be reckoned with when the provider told none and had written *text*."""
    error.usage = estimate(prompt, images, text)
    error.service_tier = prompt.service_tier.value
    error.estimated = True
    return error


def late(prompt: Prompt, images: Sequence[SentImage], text: str = "") -> DeadlineExceeded:
    """Says that time is up, after *text*."""
    return estimated(DeadlineExceeded("the model did not answer in the time that was left"), prompt, images, text)


def broken_off(prompt: Prompt, images: Sequence[SentImage], text: str = "") -> BackendUnavailable | BrokenOff:
    """Says that an answer ended too early: after some *text* it is cut, before it nothing is lost."""
    message = "the provider's answer broke off"
    error = BrokenOff(message) if text else BackendUnavailable(message)
    return estimated(error, prompt, images, text)


def word(fields: object, name: str) -> str:
    """Gives a field that should be a string, empty where it is none."""
    value = fields.get(name) if isinstance(fields, dict) else None
    return value if isinstance(value, str) else ""


def _flaw(response: dict[str, Any], parts: list[dict[str, Any]], text: str) -> GatewayError | None:
    status = response.get("status")
    if status == "failed":
        return failure(INSIDE_200, word(response.get("error"), "code"), {}).error
    if status in ("cancelled", "queued", "in_progress"):
        return BackendUnavailable("the provider did not finish the answer")
    reason = word(response.get("incomplete_details"), "reason")
    if reason == "content_filter" or any(part.get("type") == "refusal" for part in parts):
        return Refused("the model, or the provider's content filter, refused to answer")
    if status == "incomplete":
        limit = "reached the limit of output tokens" if reason == "max_output_tokens" else "was cut off"
        return TruncatedAnswer(f"the answer {limit}")
    return None if text else UnusableAnswer("the model answered nothing")


def _parts(response: dict[str, Any]) -> Iterator[dict[str, Any]]:
    output = response.get("output")
    for item in output if isinstance(output, list) else ():
        if isinstance(item, dict) and item.get("type") == "message" and isinstance(item.get("content"), list):
            yield from (part for part in item["content"] if isinstance(part, dict))


def _usage(usage: object, images: Sequence[SentImage]) -> Usage | None:
    if not isinstance(usage, dict):
        return None
    read, written = _count(usage, "input_tokens"), _count(usage, "output_tokens")
    if read is None or written is None:
        return None
    return Usage.billed(
        input_total=read,
        output_total=written,
        image=sum(image.plan.token_count for image in images),
        cached=_count(usage.get("input_tokens_details"), "cached_tokens") or 0,
        reasoning=_count(usage.get("output_tokens_details"), "reasoning_tokens") or 0,
    )


def _count(counts: object, name: str) -> int | None:
    value = counts.get(name) if isinstance(counts, dict) else None
    return value if isinstance(value, int) and value >= 0 else None


def _tier(told: object, prompt: Prompt) -> ServiceTier:
    # Servers that tell no tier have only one, and a caller who asked for a tier is priced by it.
    return _TIERS.get(told, prompt.service_tier) if isinstance(told, str) else prompt.service_tier
