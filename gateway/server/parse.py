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
    besides_images = 0
    try:
        # As mypy sees it, a descriptor of upb's is of another type.
        for count, size in enumerate(_sizes(memoryview(raw), request.DESCRIPTOR)):  # type: ignore[arg-type]
            besides_images += size
            if count >= _MOST_FIELDS:
                raise MalformedRequest(f"the message has more than {_MOST_FIELDS} fields")
            if besides_images > _MOST_BYTES_BESIDES_IMAGES:
                raise MalformedRequest("the message has more than 1 MiB besides its images")
        return request.FromString(raw)
    except (DecodeError, IndexError):
        raise MalformedRequest(f"the message is not a {request.DESCRIPTOR.full_name}") from None


def _sizes(raw: memoryview, descriptor: Descriptor) -> Iterator[int]:
    """Gives the size of each field, 0 for images; of a message that holds images, its own fields in its place."""
    images, requests = _with_images(descriptor)
    for number, first, start, end in _fields(raw):
        if number in images:
            yield 0
        elif number in requests:
            yield from _sizes(raw[start:end], requests[number])
        else:
            yield end - first


@cache
def _with_images(descriptor: Descriptor) -> tuple[frozenset[int], dict[int, Descriptor]]:
    """Gives the numbers of the fields that are images, and the types of those that hold some, by number."""
    kinds = {field.number: field.message_type for field in descriptor.fields if field.message_type}
    images = frozenset(number for number, kind in kinds.items() if kind is _IMAGE)
    holding = {
        number: kind for number, kind in kinds.items() if any(each.message_type is _IMAGE for each in kind.fields)
    }
    return images, holding


def _fields(raw: memoryview) -> Iterator[tuple[int, int, int, int]]:
    """Gives of each field its number, its start, and start and end of what it holds.

    Raises IndexError past the end of *raw*, and DecodeError for types that proto3 does not have.
    """
    at = 0
    while at < len(raw):
        first = at
        tag, start = _varint(raw, at)
        kind = tag & 7
        if kind == _LENGTH:
            size, start = _varint(raw, start)
            at = start + size
        elif kind == _VARINT:
            _, at = _varint(raw, start)
        elif kind in {_FIXED64, _FIXED32}:
            at = start + (8 if kind == _FIXED64 else 4)
        else:
            raise DecodeError
        yield tag >> 3, first, start, at


def _varint(raw: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for index in range(_LONGEST_VARINT):
        byte = raw[at + index]
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:  # noqa: PLR2004  the bit that says whether more follows
            return value, at + index + 1
    raise DecodeError
