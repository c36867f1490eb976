"""Walks through the segments of a JPEG file (ITU-T T.81 annex B) without decoding a pixel."""

from __future__ import annotations

import re
import secrets
import struct
from typing import TYPE_CHECKING

from gateway.imaging.limits import Flaw
from gateway.imaging.structure import Structure, check_parts, edited, orientation

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gateway.imaging.limits import Limits

_SOI_BYTES = 2
_LENGTH_BYTES = 2
_EOI, _SOS, _COM = 0xD9, 0xDA, 0xFE
_APP0, _APP1, _APP2, _APP14 = 0xE0, 0xE1, 0xE2, 0xEE
_APPS = range(0xE0, 0xF0)
# No marker: what stands between segments.
_JUNK = 0x00
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_LEFT_OUT = frozenset({_JUNK, _COM, *_APPS})
# Baseline, extended and progressive with Huffman codes: what every decoder knows.
_COMMON_FRAMES = frozenset({0xC0, 0xC1, 0xC2})
_GREY_OR_COLOUR = frozenset({1, 3})
# Frames, tables (DHT, DAC, DQT, DNL, DRI), scans, application data and comments: all that have a length.
_SEGMENTS = _FRAMES | {0xC4, 0xCC, _SOS, 0xDB, 0xDC, 0xDD, _COM} | set(_APPS)

# libjpeg passes over whatever is not a marker, and in a scan over restarts too.
_NEXT_MARKER = re.compile(rb"\xff[^\x00\xff]")
_END_OF_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")

# Body of a JFIF segment without thumbnail; its last two bytes are the thumbnail's size.
_JFIF_BYTES = 14

# Each 0xFF costs the search for the end of a scan 7 ns. Scans of pictures have one in about 250 bytes, so only a
# big file made to have many can cost tens of milliseconds.
_DENSE_FROM_BYTES = 1 << 20
_SAMPLES, _SAMPLE_BYTES = 64, 1024
_MOST_SAMPLED = _SAMPLES * _SAMPLE_BYTES // 16


def walk(data: bytes, limits: Limits, *, header_only: bool = False) -> Structure:
    """Finds size, orientation and end of the picture in *data*, which starts with SOI.

    Raises `Flaw`, or `EOFError` or `struct.error` where the file ends too early. Colour profile, JFIF and Adobe
    segments are kept; every other APPn segment (EXIF, XMP, IPTC, previews), comments, and what follows the picture
    are left out. With *header_only* it ends where the picture's data begin, which are nearly all of the file.
    """
    _check_density(data)
    size: tuple[int, int] | None = None
    upright: int | None = None
    plain, scans, end = True, 0, 0
    edits: list[tuple[int, int, bytes]] = []
    for count, (marker, start, body, end) in enumerate(_segments(data, header_only=header_only)):
        check_parts(count)
        if marker in _FRAMES:
            if size is not None:
                raise _damaged("it has two frames")
            depth, height, width, channels = struct.unpack_from(">BHHB", data[body:end])
            limits.check_size("JPEG", width, height)
            size = width, height
            plain = marker in _COMMON_FRAMES and depth == 8 and channels in _GREY_OR_COLOUR  # noqa: PLR2004  bits
        elif marker == _SOS:
            scans += 1
            _check_scans(scans, limits)
            if size is None:
                raise _damaged("a scan comes before the frame")
        elif marker in _LEFT_OUT:
            if marker == _APP1 and upright is None and data.startswith(b"Exif\0", body, end):
                upright = orientation(data, body + 6, end)
            replacement = _replacement(data, marker, body, end)
            if replacement is not None:
                edits.append((start, end, replacement))
    if size is None or scans == 0:
        raise _damaged("it has no picture")
    width, height = size
    parts = edited(edits, len(data), end)
    return Structure(width_px=width, height_px=height, orientation=upright or 1, plain=plain, parts=parts)


def _segments(data: bytes, *, header_only: bool) -> Iterator[tuple[int, int, int, int]]:
    """Yields each segment of the first picture, EOI last, as (marker, start, start of its body, end).

    Entropy-coded data, which follow a scan's segment, are passed over; other bytes between segments are _JUNK.
    """
    at, in_scan = _SOI_BYTES, False
    while True:
        found = (_END_OF_SCAN if in_scan else _NEXT_MARKER).search(data, at)
        if found is None:
            raise EOFError
        body, marker = found.end(), data[found.end() - 1]
        if found.start() > at and not in_scan:
            yield _JUNK, at, at, found.start()
        start = found.start()
        if marker == _EOI:
            yield marker, start, body, body
            return
        if marker not in _SEGMENTS:
            raise _damaged("it has a marker that no picture has")
        (length,) = struct.unpack_from(">H", data, body)
        at = body + length
        if length < _LENGTH_BYTES:
            raise _damaged("a segment has no length")
        yield marker, start, body + _LENGTH_BYTES, at
        in_scan = marker == _SOS
        if in_scan and header_only:
            return


def _replacement(data: bytes, marker: int, body: int, end: int) -> bytes | None:
    """Gives what takes the place of a segment in _LEFT_OUT with the body `data[body:end]`; None where it stays."""
    if marker == _APP2 and data.startswith(b"ICC_PROFILE\0", body, end):
        return None
    if marker == _APP14 and data.startswith(b"Adobe", body, end):
        return None
    if marker == _APP0 and data.startswith(b"JFIF\0", body, end) and end - body >= _JFIF_BYTES:
        if end - body == _JFIF_BYTES:
            return None
        # The thumbnail may show what was cut off the picture.
        return b"\xff\xe0\x00\x10" + data[body : body + _JFIF_BYTES - 2] + b"\0\0"
    return b""


def _check_scans(count: int, limits: Limits) -> None:
    if count > limits.max_jpeg_scans:
        raise Flaw(
            "scans",
            f"the JPEG has more than {limits.max_jpeg_scans} scans, which take too long to decode: "
            "save it as baseline JPEG, or with the usual 10 progressive scans",
        )


def _check_density(data: bytes) -> None:
    if len(data) < _DENSE_FROM_BYTES:
        return
    # At places that nobody can know beforehand, so that nobody can keep them clean.
    starts = (secrets.randbelow(len(data) - _SAMPLE_BYTES) for _ in range(_SAMPLES))
    if sum(data.count(0xFF, start, start + _SAMPLE_BYTES) for start in starts) > _MOST_SAMPLED:
        raise Flaw("parts", "the JPEG consists largely of 0xFF bytes, as no picture does; save it again")


def _damaged(how: str) -> Flaw:
    return Flaw("decode", f"the JPEG is damaged ({how}); save it again")
