"""Checks an image by the structure of its file alone: fast enough for the event loop, whatever the bytes are."""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING, Final

from gateway.domain import SourceImage
from gateway.errors import InvalidImage
from gateway.imaging import gif, jpeg, png, webp
from gateway.imaging.limits import SPELLINGS, Flaw, Format

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.imaging.limits import Limits
    from gateway.imaging.structure import Structure

_MEDIA_TYPES: Final[dict[Format, str]] = {
    "JPEG": "image/jpeg",
    "PNG": "image/png",
    "WEBP": "image/webp",
    "GIF": "image/gif",
}
_WALKS: Final[dict[Format, Callable[[bytes, Limits], Structure]]] = {
    "JPEG": jpeg.walk,
    "PNG": png.walk,
    "WEBP": webp.walk,
    "GIF": gif.walk,
}
_MAGIC: Final[tuple[tuple[re.Pattern[bytes], Format], ...]] = (
    (re.compile(rb"\xff\xd8\xff"), "JPEG"),
    (re.compile(rb"\x89PNG\r\n\x1a\n"), "PNG"),
    (re.compile(rb"RIFF.{4}WEBP", re.DOTALL), "WEBP"),
    (re.compile(rb"GIF8[79]a"), "GIF"),
)
# What people send by mistake, so that the message can name it.
_OTHERS: Final = tuple(
    (re.compile(pattern, re.DOTALL), name)
    for pattern, name in (
        (rb".{4}ftyp(avif|avis)", "AVIF"),
        (rb".{4}ftyp(hei|hev|mif1|msf1)", "HEIC"),
        (rb".{4}ftyp", "Video (MP4 or QuickTime)"),
        (rb"II[*+]\0|MM\0[*+]", "TIFF"),
        (rb"BM.{4}\0\0\0\0", "BMP"),
        (rb"\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)?(<!DOCTYPE svg[^>]*>\s*)?<svg", "SVG"),
        (rb"%PDF-", "PDF"),
        (rb"\0\0\0\x0cjP {2}|\xff\x4f\xff\x51", "JPEG 2000"),
        (rb"\xff\x0a|\0\0\0\x0cJXL ", "JPEG XL"),
        (rb"\0\0\x01\0", "ICO"),
        (rb"8BPS", "Photoshop (PSD)"),
        (rb"PK\x03\x04", "ZIP"),
        (rb"\x1f\x8b", "gzip"),
        (rb"data:|/9j/|iVBORw0KGgo|UklGR|R0lGOD", "Base64 text in place of the bytes that it stands for"),
        (rb"\s*<(!DOCTYPE html|html)", "HTML"),
        (rb"[\t\n\r\x20-\x7e\x80-\xff]{1,256}\Z", "Text"),
    )
)
_SNIFFED_BYTES = 256


def inspect(data: bytes, limits: Limits, *, field: str = "image", header_only: bool = False) -> SourceImage:
    """Checks *data* against *limits* and tells what picture it holds, from its bytes and never from a name.

    Takes less than a millisecond for images of up to 2 MB, and at most some 15 for the worst 20 MiB. No pixel is
    decoded: what only a decoder can find is left for `Preparer.prepare`. *field* is the path of the image in the
    request. With *header_only* what comes is good for its size alone: damage further on goes unnoticed, and `parts` are
    not those of the file. Raises `InvalidImage` with one of `LIMIT_NAMES`.
    """
    try:
        limits.check_bytes(len(data))
        found = _sniff(data, limits)
        structure = _walk(data, found, limits, header_only=header_only)
    except Flaw as flaw:
        raise InvalidImage(str(flaw), limit=flaw.limit, field=field) from None
    lying = structure.orientation >= 5  # noqa: PLR2004  5 to 8 swap the axes (EXIF 2.3, tag 0x0112)
    width, height = structure.width_px, structure.height_px
    return SourceImage(
        data=data,
        media_type=_MEDIA_TYPES[found],
        width_px=height if lying else width,
        height_px=width if lying else height,
        orientation=structure.orientation,
        animated=structure.animated,
        plain=structure.plain,
        parts=structure.parts,
        field=field,
    )


def _sniff(data: bytes, limits: Limits) -> Format:
    start = data[:_SNIFFED_BYTES]
    for pattern, found in _MAGIC:
        if pattern.match(start):
            if found in limits.formats:
                return found
            raise Flaw("format", f"{SPELLINGS[found]} is not accepted; send {limits.accepted}")
    for pattern, name in _OTHERS:
        if pattern.match(start):
            raise Flaw("format", f"{name} is not accepted; send {limits.accepted}")
    raise Flaw("format", f"the bytes are not an image of a known format; send {limits.accepted}")


def _walk(data: bytes, found: Format, limits: Limits, *, header_only: bool) -> Structure:
    try:
        # Of the other formats, all of the structure is read in no time.
        return (
            jpeg.walk(data, limits, header_only=True)
            if header_only and found == "JPEG"
            else _WALKS[found](data, limits)
        )
    except (EOFError, IndexError, struct.error):
        raise Flaw(
            "truncated",
            f"the {SPELLINGS[found]} is cut off: its {len(data):,} bytes end before the picture; send the whole file",
        ) from None
