"""Decodes the picture that a request brings."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import ExifTags, Image, ImageOps

from cpu_vision.outcomes import InvalidImageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_BYTES = 20 << 20
MAX_PIXELS = 40_000_000
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF")
# Nothing here looks closer than this: the text detector shrinks to 2000 px, the others to 300 px.
_USEFUL_SIDE_PX = 2000
# EXIF orientations that swap width and height.
_TURNED = frozenset({5, 6, 7, 8})


class Picture(NamedTuple):
    """An upright picture.

    *pixels* has shape (height, width, 3), dtype uint8, channels blue, green, red; it may be smaller than the picture
    that was sent, whose size is *width_px* by *height_px*.
    """

    pixels: NDArray[np.uint8]
    width_px: int
    height_px: int


def decode(data: bytes) -> Picture:
    """Decodes an encoded image upright, transparency on white, or raises `InvalidImageError`.

    Takes JPEG, PNG, WebP and GIF (its first frame) of at most 20 MiB and 40 megapixels; pixels are decoded only when
    the size in the header is allowed.
    """
    if len(data) > MAX_BYTES:
        raise InvalidImageError(f"the image has {len(data)} bytes; at most {MAX_BYTES} are taken")
    try:
        return _decode(data)
    except InvalidImageError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        # Pillow's own bound, which is higher.
        raise InvalidImageError(f"the image has more than {MAX_PIXELS} pixels") from error
    except Exception as error:  # Pillow's decoders raise whatever they like on broken files.
        raise InvalidImageError("the image cannot be decoded") from error


def _decode(data: bytes) -> Picture:
    image: Image.Image = Image.open(io.BytesIO(data), formats=_FORMATS)
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise InvalidImageError(f"the image has more than {MAX_PIXELS} pixels")
    if image.getexif().get(ExifTags.Base.Orientation, 1) in _TURNED:
        width, height = height, width
    # A JPEG is decoded straight to a half, a quarter or an eighth where that is enough.
    image.draft("RGB", (min(image.width, _USEFUL_SIDE_PX), min(image.height, _USEFUL_SIDE_PX)))
    rgb = np.asarray(_on_white(ImageOps.exif_transpose(image)))
    return Picture(np.ascontiguousarray(rgb[:, :, ::-1]), width, height)


def _on_white(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        # 16-bit grey; Pillow would clip it to white.
        image = Image.fromarray((np.asarray(image, dtype=np.uint32) >> 8).astype(np.uint8))
    if not image.has_transparency_data:
        return image.convert("RGB")
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
