"""What the walk through a file's structure finds, whatever its format."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from gateway.imaging.limits import MAX_PARTS, Flaw

if TYPE_CHECKING:
    from collections.abc import Iterable

# A range of the file, or bytes in place of one.
Part: TypeAlias = tuple[int, int] | bytes

_ORIENTATION_TAG = 0x0112
# By TIFF type: BYTE, SHORT, LONG.
_INTEGERS = {1: "B", 3: "H", 4: "I"}
# The orientation is among an IFD's first entries, which are sorted by tag.
_ENTRIES = 64
_EXIF_BYTES = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Structure:
    """A picture as its file stores it: size before it is put upright, and the parts of the file without metadata."""

    width_px: int
    height_px: int
    orientation: int = 1
    animated: bool = False
    plain: bool = True
    parts: tuple[Part, ...] = ()


def edited(edits: Iterable[tuple[int, int, bytes]], size: int, end: int) -> tuple[Part, ...]:
    """Gives the parts of a file of *size* bytes up to *end*, with ranges replaced.

    *edits* are `(start, stop, replacement)`, in order and not overlapping. Empty where the file stays as it is.
    """
    parts: list[Part] = []
    at = 0
    for start, stop, replacement in edits:
        if start > at:
            parts.append((at, start))
        if replacement:
            parts.append(replacement)
        at = stop
    if at == 0 and end == size:
        return ()
    if end > at:
        parts.append((at, end))
    return tuple(parts)


def check_parts(count: int) -> None:
    """Raises `Flaw` where a file has too many parts to walk through."""
    if count > MAX_PARTS:
        raise Flaw("parts", f"the image file is made of more than {MAX_PARTS:,} parts; save it again")


def orientation(data: bytes, start: int, stop: int) -> int:
    """Reads the orientation, 1 to 8, from the EXIF block `data[start:stop]`; 1 where there is none or it is damaged.

    EXIF 2.3 section 4.6.4: tag 0x0112 of the first IFD of a TIFF structure.
    """
    block = data[start : min(stop, start + _EXIF_BYTES)]
    endian = {b"II*\0": "<", b"MM\0*": ">"}.get(block[:4])
    if endian is None:
        return 1
    try:
        (ifd,) = struct.unpack_from(f"{endian}I", block, 4)
        (count,) = struct.unpack_from(f"{endian}H", block, ifd)
        for entry in range(ifd + 2, ifd + 2 + 12 * min(count, _ENTRIES), 12):
            tag, kind = struct.unpack_from(f"{endian}HH", block, entry)
            if tag == _ORIENTATION_TAG and kind in _INTEGERS:
                (value,) = struct.unpack_from(f"{endian}{_INTEGERS[kind]}", block, entry + 8)
                return value if value in range(1, 9) else 1
    except struct.error:
        return 1
    return 1
