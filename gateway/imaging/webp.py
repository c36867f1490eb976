"""Walks through the chunks of a WebP file (RFC 9649) without decoding a pixel."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from gateway.imaging.limits import Flaw
from gateway.imaging.structure import Structure, check_parts, edited, orientation

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gateway.imaging.limits import Limits

_RIFF_BYTES = 12
_CHUNK = struct.Struct("<4sI")
_KEPT = frozenset({b"VP8X", b"ICCP", b"ALPH", b"VP8 ", b"VP8L", b"ANIM", b"ANMF"})
# Of a chunk that has a size, up to and with it.
_SIZE_BYTES = 10
# Flags of the VP8X chunk.
_ICC, _ALPHA, _ANIMATION = 0x20, 0x10, 0x02


def walk(data: bytes, limits: Limits) -> Structure:
    """Finds size, orientation and end of the picture in *data*, which starts with a RIFF header of the form WEBP.

    Raises `Flaw`, or `EOFError` or `struct.error` where the file ends too early. EXIF, XMP and unknown chunks, and
    what follows the picture, are left out.
    """
    # The first chunk has the size: a picture too big is told before anything else that is wrong with the file.
    first, length = _CHUNK.unpack_from(data, _RIFF_BYTES)
    body = _RIFF_BYTES + _CHUNK.size
    width, height, has_alpha = _size(first, data[body : body + min(length, _SIZE_BYTES)])
    limits.check_size("WEBP", width, height)
    animated = first == b"VP8X" and bool(data[body] & _ANIMATION)
    (riff_bytes,) = struct.unpack_from("<I", data, 4)
    end = 8 + riff_bytes
    if end > len(data):
        raise EOFError
    upright: int | None = None
    has_picture = False
    edits: list[tuple[int, int, bytes]] = []
    for count, (kind, start, body, stop) in enumerate(_chunks(data, end)):
        check_parts(count)
        if kind not in _KEPT:
            edits.append((start, stop, b""))
            if kind == b"EXIF" and upright is None:
                upright = orientation(data, body + 6 if data.startswith(b"Exif\0\0", body, stop) else body, stop)
        elif kind in {b"VP8 ", b"VP8L"}:
            has_picture = True
            if _size(kind, data[body : min(stop, body + _SIZE_BYTES)])[:2] != (width, height):
                raise _damaged("its picture has another size than its header")
        elif kind == b"ANMF":
            has_picture = True
    if not has_picture:
        raise _damaged("it has no picture")
    parts = edited([*_headers(data, edits, end), *edits] if edits else [], len(data), end)
    return Structure(
        width_px=width, height_px=height, orientation=upright or 1, animated=animated, plain=not has_alpha, parts=parts
    )


def _chunks(data: bytes, end: int) -> Iterator[tuple[bytes, int, int, int]]:
    """Yields each chunk as (kind, start, start of its body, end with padding)."""
    at = _RIFF_BYTES
    while at + _CHUNK.size <= end:
        kind, length = _CHUNK.unpack_from(data, at)
        start, body = at, at + _CHUNK.size
        if body + length > end:
            raise EOFError
        at = min(body + length + length % 2, end)
        yield kind, start, body, at


def _size(kind: bytes, body: bytes) -> tuple[int, int, bool]:
    """Reads width and height in pixels, and whether there is transparency, from the *body* of a chunk that has them."""
    if kind == b"VP8X":
        flags, low, width, high, height = struct.unpack_from("<B3xHBHB", body)
        return 1 + low + (width << 16), 1 + high + (height << 16), bool(flags & _ALPHA)
    if kind == b"VP8L":
        signature, bits = struct.unpack_from("<BI", body)
        if signature != 0x2F:  # noqa: PLR2004  RFC 9649 section 3.4
            raise _damaged("its picture has no header")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF), bool(bits >> 28 & 1)
    if kind == b"VP8 ":
        start_code, width, height = struct.unpack_from("<3x3sHH", body)
        if start_code != b"\x9d\x01\x2a":
            raise _damaged("its picture has no header")
        return width & 0x3FFF, height & 0x3FFF, False
    raise _damaged("it has no picture")


def _headers(data: bytes, dropped: list[tuple[int, int, bytes]], end: int) -> Iterator[tuple[int, int, bytes]]:
    """Yields the edits by which the file's headers fit what is left of it."""
    left = end - sum(stop - start for start, stop, _ in dropped)
    yield 0, _RIFF_BYTES, struct.pack("<4sI4s", b"RIFF", left - 8, b"WEBP")
    if data.startswith(b"VP8X", _RIFF_BYTES):
        flags = _RIFF_BYTES + _CHUNK.size
        yield flags, flags + 1, bytes([data[flags] & (_ICC | _ALPHA | _ANIMATION)])


def _damaged(how: str) -> Flaw:
    return Flaw("decode", f"the WebP is damaged ({how}); save it again")
