"""Walks through the chunks of a PNG file (W3C PNG, third edition, section 5) without inflating any."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from gateway.imaging.limits import Flaw
from gateway.imaging.structure import Structure, check_parts, edited, orientation

if TYPE_CHECKING:
    from gateway.imaging.limits import Limits

_SIGNATURE_BYTES = 8
_CHUNK = struct.Struct(">I4s")
_HEADER = struct.Struct(">IIBBBBB")
# Length, type and checksum around a chunk's data.
_AROUND_BYTES = 12
_TEXTS = frozenset({b"tEXt", b"zTXt", b"iTXt"})
# What the picture and its colours depend on.
_KEPT = frozenset(
    {
        b"IHDR",
        b"PLTE",
        b"IDAT",
        b"IEND",
        b"tRNS",
        b"gAMA",
        b"cHRM",
        b"sRGB",
        b"iCCP",
        b"cICP",
        b"mDCV",
        b"cLLI",
        b"sBIT",
    }
)
# Bit depths by colour type: grey, RGB, palette, grey with alpha, RGB with alpha.
_DEPTHS = {0: {1, 2, 4, 8, 16}, 2: {8, 16}, 3: {1, 2, 4, 8}, 4: {8, 16}, 6: {8, 16}}
_WITH_ALPHA = frozenset({4, 6})


def walk(data: bytes, limits: Limits) -> Structure:
    """Finds size, orientation and end of the picture in *data*, which starts with the PNG signature.

    Raises `Flaw`, or `EOFError` or `struct.error` where the file ends too early. Text, time, EXIF and unknown chunks,
    further frames, and what follows the picture are left out.
    """
    width, height, plain = _header(data, limits)
    upright: int | None = None
    animated, texts, has_data = False, 0, False
    edits: list[tuple[int, int, bytes]] = []
    at = count = _SIGNATURE_BYTES
    kind = b""
    while kind != b"IEND":
        count += 1
        check_parts(count)
        length, kind = _CHUNK.unpack_from(data, at)
        start, at = at, at + _AROUND_BYTES + length
        if at > len(data):
            raise EOFError
        if kind == b"IDAT":
            has_data = True
            continue
        if kind not in _KEPT:
            edits.append((start, at, b""))
        if kind in _TEXTS:
            texts += 1
            _check_texts(texts, limits)
        elif kind == b"tRNS":
            plain = False
        elif kind == b"acTL":
            animated = animated or not has_data
        elif kind == b"eXIf" and upright is None:
            upright = orientation(data, start + 8, at - 4)
    if not has_data:
        raise _damaged("it has no picture")
    parts = edited(edits, len(data), at)
    return Structure(
        width_px=width, height_px=height, orientation=upright or 1, animated=animated, plain=plain, parts=parts
    )


def _header(data: bytes, limits: Limits) -> tuple[int, int, bool]:
    length, kind = _CHUNK.unpack_from(data, _SIGNATURE_BYTES)
    width, height, depth, colour, *methods = _HEADER.unpack_from(data, _SIGNATURE_BYTES + _CHUNK.size)
    if kind != b"IHDR" or length != _HEADER.size:
        raise _damaged("it does not begin with its header")
    limits.check_size("PNG", width, height)
    if depth not in _DEPTHS.get(colour, ()) or methods not in ([0, 0, 0], [0, 0, 1]):
        raise _damaged("its header is not one that PNG allows")
    return width, height, depth <= 8 and colour not in _WITH_ALPHA  # noqa: PLR2004  bits


def _check_texts(count: int, limits: Limits) -> None:
    if count > limits.max_png_text_chunks:
        raise Flaw(
            "text_chunks",
            f"the PNG has more than {limits.max_png_text_chunks} text chunks; save it without them",
        )


def _damaged(how: str) -> Flaw:
    return Flaw("decode", f"the PNG is damaged ({how}); save it again")
