"""Walks through the blocks of a GIF file (GIF89a) up to the end of its first frame, without decoding a pixel."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from gateway.imaging.limits import MAX_PARTS, Flaw
from gateway.imaging.structure import Structure, check_parts, edited

if TYPE_CHECKING:
    from gateway.imaging.limits import Limits

_SCREEN = struct.Struct("<6xHHB2x")
_FRAME = struct.Struct("<HHHHB")
_EXTENSION, _SEPARATOR, _TRAILER = 0x21, 0x2C, 0x3B
_GRAPHIC_CONTROL = 0xF9
# Some encoders end their blocks twice; every decoder passes over that.
_STRAY = 0x00
# Encoders fill their sub-blocks, of at most 255 bytes; this many take the event loop 10 ms.
_MAX_SUB_BLOCKS = 131_072


def walk(data: bytes, limits: Limits) -> Structure:
    """Finds the size of the picture in *data*, which starts with a GIF signature, and whether there are more frames.

    Raises `Flaw`, or `EOFError`, `IndexError` or `struct.error` where the file ends before the first frame does, or
    a file of one frame before its trailer. Comments, application and text
    blocks, further frames, and what follows are left out.
    """
    width, height, flags = _SCREEN.unpack_from(data)
    limits.check_size("GIF", width, height)
    at = _SCREEN.size + _table_bytes(flags)
    plain, frames, kind = True, 0, 0
    edits: list[tuple[int, int, bytes]] = []
    for count in range(MAX_PARTS + 2):
        check_parts(count)
        start, kind = at, data[at]
        if kind == _SEPARATOR:
            frames += 1
            if frames > 1:
                edits.append((at, len(data), bytes([_TRAILER])))
                at = len(data)
                break
            left, top, frame_width, frame_height, _ = _FRAME.unpack_from(data, at + 1)
            # The screen grows to hold its first frame, as Pillow does it.
            width, height = max(width, left + frame_width), max(height, top + frame_height)
            limits.check_size("GIF", width, height)
        at = _block_end(data, start)
        if kind == _TRAILER:
            break
        if kind == _EXTENSION and data[start + 1] == _GRAPHIC_CONTROL:
            size, flags = data[start + 2 : start + 4]
            plain = plain and not (frames == 0 and size > 0 and flags & 1)
        elif kind != _SEPARATOR:
            edits.append((start, at, b""))
    if frames == 0:
        raise _damaged("it has no picture")
    parts = edited(edits, len(data), at)
    return Structure(width_px=width, height_px=height, animated=frames > 1, plain=plain, parts=parts)


def _block_end(data: bytes, at: int) -> int:
    kind = data[at]
    if kind in {_TRAILER, _STRAY}:
        return at + 1
    if kind == _EXTENSION:
        return _sub_blocks_end(data, at + 2)
    if kind == _SEPARATOR:
        *_, flags = _FRAME.unpack_from(data, at + 1)
        # The byte before the sub-blocks is the size of the first code.
        return _sub_blocks_end(data, at + 1 + _FRAME.size + _table_bytes(flags) + 1)
    raise _damaged("it has a block that no picture has")


def _table_bytes(flags: int) -> int:
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _sub_blocks_end(data: bytes, at: int) -> int:
    for _ in range(_MAX_SUB_BLOCKS):
        size = data[at]
        at += 1 + size
        if size == 0:
            return at
    raise Flaw("parts", f"a frame of the GIF has more than {_MAX_SUB_BLOCKS:,} blocks; save it again")


def _damaged(how: str) -> Flaw:
    return Flaw("decode", f"the GIF is damaged ({how}); save it again")
