"""The choices that every call has, as keyword arguments."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import ROUND_FLOOR, Decimal
from typing import Any, Literal, TypeAlias, TypedDict

from google.protobuf.descriptor import Descriptor

from visiongateway.v1 import call_pb2

PriorityChoice: TypeAlias = Literal["quality", "balanced", "cost"] | call_pb2.Priority.ValueType
ImageDetailChoice: TypeAlias = Literal["low", "medium", "high", "max"] | call_pb2.ImageDetail.ValueType
ReasoningChoice: TypeAlias = Literal["none", "low", "medium", "high"] | call_pb2.Reasoning.ValueType
CacheChoice: TypeAlias = Literal["default", "bypass", "refresh"] | call_pb2.CachePolicy.ValueType
ServiceTierChoice: TypeAlias = Literal["standard", "flex", "priority"] | call_pb2.ServiceTier.ValueType
UrgencyChoice: TypeAlias = Literal["interactive", "bulk"] | call_pb2.Urgency.ValueType


class Options(TypedDict, total=False):
    """Keyword arguments that every call takes; None is the same as leaving one out.

    Choices are words, such as `image_detail="low"`, or the values of the generated enums. All but the last two are
    fields of `visiongateway.v1.CallOptions`, where their ranges and defaults stand.
    """

    model: str | None
    route: str | None
    priority: PriorityChoice | None
    max_cost_nano_usd: int | None
    max_cost_usd: float | Decimal | None  # The same limit in dollars; a fraction of a nano-dollar is dropped.
    image_detail: ImageDetailChoice | None
    reasoning: ReasoningChoice | None
    max_output_tokens: int | None
    temperature: float | None
    seed: int | None
    allow_fallback: bool | None
    cache: CacheChoice | None
    local_only: bool | None
    service_tier: ServiceTierChoice | None
    max_image_tokens: int | None
    urgency: UrgencyChoice | None
    category: str | None
    timeout: float | None  # Seconds that the call may take, retries included; the client's own when left out.
    request_id: str | None  # Identifier for logs, sent as `x-request-id`; made up when left out.


_NOT_IN_MESSAGE = frozenset({"max_cost_usd", "timeout", "request_id"})


def call_options(options: Options) -> call_pb2.CallOptions:
    """Makes the message.

    Raises:
        TypeError: An option is unknown, or of the wrong type.
        ValueError: A word is none of its choices, or the cost limit is given twice.
    """
    unknown = sorted(options.keys() - Options.__annotations__.keys())
    if unknown:
        raise TypeError(f"unknown option {', '.join(unknown)}; there are {', '.join(sorted(Options.__annotations__))}")
    fields: dict[str, Any] = {k: v for k, v in options.items() if v is not None and k not in _NOT_IN_MESSAGE}
    for name, value in fields.items():
        fields[name] = enum_value(call_pb2.CallOptions.DESCRIPTOR, name, value)
    dollars = options.get("max_cost_usd")
    if dollars is not None:
        if "max_cost_nano_usd" in fields:
            raise ValueError("give max_cost_usd or max_cost_nano_usd, not both")
        # By way of its text, 0.1 is a tenth and not its nearest binary fraction.
        fields["max_cost_nano_usd"] = int((Decimal(str(dollars)) * 10**9).to_integral_value(ROUND_FLOOR))
    return call_pb2.CallOptions(**fields)


def enum_value(message: Descriptor, field: str, value: Any) -> Any:
    """Gives the enum's value where *value* is a word for one, such as `low`; all else passes as it is.

    Raises:
        ValueError: The word is none of the choices of this field of *message*.
    """
    enum = message.fields_by_name[field].enum_type
    if enum is None or not isinstance(value, str):
        return value
    prefix = enum.values[0].name.removesuffix("UNSPECIFIED")
    choices = {choice.name.removeprefix(prefix).lower(): choice.number for choice in enum.values[1:]}
    if value not in choices:
        raise ValueError(f"{field} is one of {', '.join(choices)}; not {value!r}")
    return choices[value]


def call_id(options: Options) -> str:
    """Gives the identifier that a call with *options* has; a new one each time, unless they name it."""
    return options.get("request_id") or uuid.uuid4().hex


@dataclass(frozen=True, slots=True)
class Call:
    """How one call goes out, besides its message. *deadline* is on the monotonic clock, in seconds."""

    deadline: float
    metadata: tuple[tuple[str, str], ...]
    request_id: str

    def time_left(self) -> float:
        """Gives the seconds that are left of it."""
        return max(self.deadline - time.monotonic(), 0.0)


@dataclass(frozen=True, slots=True)
class CallDefaults:
    """What a client adds to each of its calls. *timeout* is in seconds.

    Raises:
        ValueError: *token* is there, and *metadata* has an `authorization` too.
    """

    timeout: float
    metadata: Mapping[str, str]
    token: str | Callable[[], str] | None = None

    def __post_init__(self) -> None:
        """Checks that the credential is there once."""
        if self.token is not None and "authorization" in self.metadata:
            raise ValueError("give a token, or an authorization in the metadata, not both")

    def call(self, options: Options) -> Call:
        """Settles deadline, metadata and identifier of one call."""
        timeout = options.get("timeout")
        request_id = call_id(options)
        token = self.token() if callable(self.token) else self.token
        bearer = () if token is None else (("authorization", f"Bearer {token}"),)
        metadata = (*self.metadata.items(), *bearer, ("x-request-id", request_id))
        return Call(time.monotonic() + (self.timeout if timeout is None else timeout), metadata, request_id)
