"""What an image may be, and how a breach is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, get_args

Format: TypeAlias = Literal["JPEG", "PNG", "WEBP", "GIF"]
# Every value of the metadata `limit` of an `InvalidImage` that comes from here.
LimitName: TypeAlias = Literal[
    "empty",  # No bytes at all.
    "format",  # Not an image, or of a format that is not accepted.
    "bytes",  # The file is too big.
    "side",  # A side is too long, or has no pixel.
    "pixels",  # The picture is too big.
    "truncated",  # The file ends too early.
    "scans",  # A JPEG made of too many scans.
    "text_chunks",  # A PNG with too many text chunks.
    "parts",  # A file made of too many segments, chunks or blocks.
    "decode",  # Damaged, or not what its format allows.
    "complexity",  # Decoding takes too much time or memory.
]
LIMIT_NAMES: tuple[LimitName, ...] = get_args(LimitName)

# Segments, chunks or blocks that the event loop walks through: a few milliseconds.
MAX_PARTS = 8_192

# As people write them.
SPELLINGS: Final[dict[Format, str]] = {"JPEG": "JPEG", "PNG": "PNG", "WEBP": "WebP", "GIF": "GIF"}
_MIB = 1 << 20


class Flaw(Exception):
    """Why an image is not taken; becomes an `InvalidImage` where the image's field is known."""

    def __init__(self, limit: LimitName, message: str) -> None:
        """*message* is for people: what was found, what the limit is, what to do."""
        super().__init__(message)
        self.limit = limit


@dataclass(frozen=True, slots=True)
class Limits:
    """What is accepted. *max_pixels* is for JPEG, PNG and GIF; WebP takes four times their memory to decode.

    A JPEG's decoding time grows with its scans (3.6 ms each at 40 megapixels with libjpeg-turbo) and a PNG's with its
    text chunks (3 us each), whatever the size of the picture.
    """

    max_bytes: int = 20 * _MIB
    max_pixels: int = 40_000_000
    max_webp_pixels: int = 16_000_000
    max_side_px: int = 16_384
    min_side_px: int = 1
    max_jpeg_scans: int = 64
    max_png_text_chunks: int = 256
    formats: tuple[Format, ...] = ("JPEG", "PNG", "WEBP", "GIF")

    @property
    def accepted(self) -> str:
        """The accepted formats, as in `JPEG, PNG or GIF`."""
        *others, last = (SPELLINGS[each] for each in self.formats)
        return f"{', '.join(others)} or {last}" if others else last

    def check_bytes(self, count: int) -> None:
        """Raises `Flaw` for a file of *count* bytes that is empty or too big."""
        if count == 0:
            raise Flaw("empty", f"the image is empty (0 bytes); send the bytes of a {self.accepted} file")
        if count > self.max_bytes:
            most = f"{self.max_bytes:,} ({self.max_bytes / _MIB:g} MiB)"
            raise Flaw("bytes", f"the image has {count:,} bytes; at most {most} are accepted: scale it down")

    def check_size(self, found: Format, width: int, height: int) -> None:
        """Raises `Flaw` for a picture of *width* x *height* pixels that is too small or too big for its format."""
        size = f"the {SPELLINGS[found]} is {width:,} x {height:,} pixels"
        if min(width, height) < self.min_side_px:
            raise Flaw("side", f"{size}; each side needs at least {self.min_side_px:,}")
        most = self.max_webp_pixels if found == "WEBP" else self.max_pixels
        if width * height > most:
            megapixels = f"{width * height / 1e6:,.1f} megapixels"
            raise Flaw(
                "pixels", f"{size} ({megapixels}); at most {most / 1e6:g} megapixels are accepted: scale it down"
            )
        if max(width, height) > self.max_side_px:
            raise Flaw("side", f"{size}; each side may have at most {self.max_side_px:,}: scale it down or cut it up")
