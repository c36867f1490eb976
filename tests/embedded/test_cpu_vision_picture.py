"""Pictures are decoded upright, on white, and within bounds."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from cpu_vision.outcomes import InvalidImageError
from cpu_vision.picture import MAX_BYTES, decode
from tests.fixtures.pictures import chunk, encode, exif, png_header, stored

BGR_QUARTERS = [(0, 0, 255), (0, 255, 0), (255, 0, 0), (0, 255, 255)]


def quarters(picture):
    height, width = picture.pixels.shape[:2]
    ys, xs = (height // 4, height * 3 // 4), (width // 4, width * 3 // 4)
    return [tuple(int(255 * (channel > 127)) for channel in picture.pixels[y, x]) for y in ys for x in xs]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photograph_is_turned_upright(orientation):
    picture = decode(encode(stored(orientation), "JPEG", exif=exif(orientation)))

    assert (picture.width_px, picture.height_px, picture.pixels.shape) == (64, 32, (32, 64, 3))
    assert quarters(picture) == BGR_QUARTERS


@pytest.mark.parametrize("image_format", ["PNG", "WEBP", "GIF"])
def test_other_formats_are_decoded(image_format):
    assert quarters(decode(encode(stored(), image_format))) == BGR_QUARTERS


def test_transparency_becomes_white():
    picture = decode(encode(Image.new("RGBA", (4, 4), (0, 0, 0, 0)), "PNG"))

    assert picture.pixels.min() == 255


def test_sixteen_bits_of_grey_become_eight():
    grey = Image.fromarray(np.full((4, 4), 0x8000, np.uint16))

    assert decode(encode(grey, "PNG")).pixels.tolist() == [[[0x80] * 3] * 4] * 4


def test_a_large_photograph_is_decoded_smaller_but_keeps_its_size():
    picture = decode(encode(Image.new("RGB", (5000, 4200)), "JPEG"))

    assert (picture.width_px, picture.height_px, picture.pixels.shape) == (5000, 4200, (2100, 2500, 3))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "cannot be decoded"),
        (b"not an image", "cannot be decoded"),
        (encode(stored(), "PNG")[:-30], "cannot be decoded"),
        (encode(stored(), "BMP"), "cannot be decoded"),
        (png_header(6_400, 6_400) + chunk(b"IDAT", b""), "more than 40000000 pixels"),
        (png_header(30_000, 30_000) + chunk(b"IDAT", b""), "more than 40000000 pixels"),
        (bytes(MAX_BYTES + 1), "20971521 bytes; at most 20971520"),
    ],
)
def test_what_is_no_picture_or_too_large_is_invalid(data, message):
    with pytest.raises(InvalidImageError, match=message):
        decode(data)
