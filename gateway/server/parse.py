"""Reads request messages, but none made to exhaust memory or to block the event loop."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, TypeVar

from google.protobuf.message import DecodeError, Message

from gateway.errors import MalformedRequest
from visiongateway.v1 import image_pb2

if TYPE_CHECKING:
    from collections.abc import Iterator

    from google.protobuf.descriptor import Descriptor

MessageT = TypeVar("MessageT", bound=Message)

# Far above what a request in order has. A message of two bytes a field, 20 MiB of them, takes seconds to parse, and
# as Python objects gigabytes.
_MOST_FIELDS = 4096
_MOST_BYTES_BESIDES_IMAGES = 1 << 20
_IMAGE = image_pb2.Image.DESCRIPTOR
# https://protobuf.dev/programming-guides/encoding/#structure
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_LONGEST_VARINT = 10


def parse(raw: bytes, request: type[MessageT]) -> MessageT:
    """Reads *raw* as a *request*, or raises `MalformedRequest`."""
    images = _image_fields(request.DESCRIPTOR)
    besides_images = 0
    try:
        for count, (number, size) in enumerate(_fields(raw)):
            besides_images += 0 if number in images else size
            if count >= _MOST_FIELDS:
                raise MalformedRequest(f"the message has more than {_MOST_FIELDS} fields")
            if besides_images > _MOST_BYTES_BESIDES_IMAGES:
                raise MalformedRequest("the message has more than 1 MiB besides its images")
        return request.FromString(raw)
    except (DecodeError, IndexError):
        raise MalformedRequest(f"the message is not a {request.DESCRIPTOR.full_name}") from None


@cache
def _image_fields(descriptor: Descriptor) -> frozenset[int]:
    return frozenset(field.number for field in descriptor.fields if field.message_type is _IMAGE)


def _fields(raw: bytes) -> Iterator[tuple[int, int]]:
    """Gives number and size of each top-level field; raises IndexError past the end, DecodeError for odd types."""
    at = 0
    while at < len(raw):
        start = at
        tag, at = _varint(raw, at)
        kind = tag & 7
        if kind == _LENGTH:
            size, at = _varint(raw, at)
            at += size
        elif kind == _VARINT:
            _, at = _varint(raw, at)
        elif kind in {_FIXED64, _FIXED32}:
            at += 8 if kind == _FIXED64 else 4
        else:
            raise DecodeError
        yield tag >> 3, at - start


def _varint(raw: bytes, at: int) -> tuple[int, int]:
    value = 0
    for index in range(_LONGEST_VARINT):
        byte = raw[at + index]
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:  # noqa: PLR2004  the bit that says whether more follows
            return value, at + index + 1
    raise DecodeError
