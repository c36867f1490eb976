"""Turns what a caller has into the `Image` message."""

from __future__ import annotations

import asyncio
import io
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from visiongateway.v1.image_pb2 import Image

if TYPE_CHECKING:
    import PIL.Image

# A path, an address (`https://...`), encoded bytes, a Pillow image, or the message itself.
ImageSource: TypeAlias = "str | os.PathLike[str] | bytes | bytearray | memoryview | PIL.Image.Image | Image"

# Modes that JPEG keeps as they are, and those with transparency, a palette or more bits, which PNG keeps.
_JPEG_MODES = frozenset({"CMYK", "L", "RGB"})
_PNG_MODES = frozenset({"1", "I", "I;16", "L", "LA", "P", "RGB", "RGBA"})


def load_image(source: ImageSource) -> Image:
    """Makes the message; reads a path's file, and encodes a Pillow image.

    A file's and the caller's bytes go out as they are. A Pillow image is turned upright by its EXIF orientation and
    encoded as JPEG of quality 95 without chroma subsampling, or as PNG where JPEG would lose more than that.

    Raises:
        OSError: The file cannot be read.
        TypeError: *source* is none of the things that make an image.
    """
    if isinstance(source, Image):
        return source
    if isinstance(source, bytes | bytearray | memoryview):
        return Image(data=bytes(source))
    if isinstance(source, str) and source.startswith(("https://", "http://")):
        return Image(url=source)
    if isinstance(source, str | os.PathLike):
        return Image(data=Path(source).read_bytes())
    # Whoever has a Pillow image has imported Pillow; the client itself does not need it.
    pillow = sys.modules.get("PIL.Image")
    if pillow is not None and isinstance(source, pillow.Image):
        return Image(data=_encode(source))
    raise TypeError(f"an image is a path, bytes, a Pillow image or an Image message, not {type(source).__name__}")


async def load_image_async(source: ImageSource) -> Image:
    """Does as `load_image`, with files read and pictures encoded in a thread."""
    if isinstance(source, Image | bytes | bytearray | memoryview):
        return load_image(source)
    return await asyncio.to_thread(load_image, source)


def _encode(picture: PIL.Image.Image) -> bytes:
    from PIL import ImageOps  # noqa: PLC0415  # Pillow is the caller's, not a dependency.

    upright = ImageOps.exif_transpose(picture)
    if upright.mode not in _JPEG_MODES | _PNG_MODES:
        upright = upright.convert("RGB")
    encoded = io.BytesIO()
    if upright.mode in _JPEG_MODES and "transparency" not in upright.info:
        upright.save(encoded, "JPEG", quality=95, subsampling=0)
    else:
        upright.save(encoded, "PNG")
    return encoded.getvalue()
