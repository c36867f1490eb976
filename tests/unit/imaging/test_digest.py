from __future__ import annotations

import asyncio

import pytest
from PIL import Image, ImageCms

from gateway.errors import InvalidImage
from gateway.imaging import Digests, Limits, Preparer, inspect
from tests.fixtures.pictures import encode, exif, stored

LIMITS = Limits()


class Counting(Preparer):
    """A preparer that counts what it decodes for digests."""

    decoded = 0

    async def digest(self, source, *, timeout_s):
        self.decoded += 1
        return await super().digest(source, timeout_s=timeout_s)


@pytest.fixture
async def preparer():
    async with Counting(workers=1) as preparer:
        yield preparer


@pytest.fixture
def digest(preparer):
    digests = Digests(preparer)
    return lambda data: digests.of(inspect(data, LIMITS))


def gradient(mode="RGB"):
    return Image.linear_gradient("L").resize((40, 30)).convert(mode)


def reopened(data):
    image = Image.open(__import__("io").BytesIO(data))
    image.load()
    return image


@pytest.mark.parametrize("image_format", ["PNG", "WEBP", "GIF"])
async def test_the_same_pixels_have_one_digest_whatever_the_file(digest, image_format):
    lossless = {"WEBP": {"lossless": True}}.get(image_format, {})
    one = encode(gradient("L"), "PNG")
    other = encode(gradient("L"), image_format, **lossless, **({"comment": b"x"} if image_format == "GIF" else {}))

    assert await digest(one) == await digest(other)


async def test_a_jpeg_and_its_pixels_in_a_png_have_one_digest(digest):
    jpeg = encode(gradient(), "JPEG", quality=70)

    assert await digest(jpeg) == await digest(encode(reopened(jpeg), "PNG"))


@pytest.mark.parametrize("orientation", range(1, 9))
async def test_what_counts_is_the_upright_picture(digest, orientation):
    turned = encode(stored(orientation), "PNG", exif=exif(orientation))

    assert await digest(turned) == await digest(encode(stored(), "PNG"))


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA"])
async def test_what_counts_is_the_picture_and_not_how_it_is_stored(digest, mode):
    grey = gradient("L")

    assert await digest(encode(grey.convert(mode), "PNG")) == await digest(encode(grey.convert("RGB"), "PNG"))


async def test_one_pixel_or_the_shape_makes_another_picture(digest):
    changed = gradient()
    changed.putpixel((39, 29), (1, 2, 3))
    pictures = [gradient(), changed, Image.new("RGB", (4, 2)), Image.new("RGB", (2, 4)), Image.new("RGB", (8, 1))]

    assert len({await digest(encode(each, "PNG")) for each in pictures}) == len(pictures)


async def test_a_file_turned_otherwise_is_another_picture_though_all_its_other_bytes_are_the_same(digest):
    one, other = (encode(stored(), "PNG", exif=exif(orientation)) for orientation in (1, 3))

    assert await digest(one) != await digest(other)


async def test_pixels_of_other_colours_by_their_profile_are_another_picture(digest):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    as_rgb = profile[:16] + b"RGB " + profile[20:]

    assert await digest(encode(gradient(), "PNG", icc_profile=as_rgb)) != await digest(encode(gradient(), "PNG"))


async def test_a_file_is_decoded_once_also_when_it_comes_again_and_again(digest, preparer):
    data = encode(gradient(), "PNG")
    with_metadata = encode(gradient(), "PNG", exif=exif())
    await asyncio.gather(*(digest(data) for _ in range(100)))
    await digest(data)
    await digest(with_metadata)

    assert preparer.decoded == 1


async def test_a_file_above_a_megabyte_is_told_apart_too(digest):
    one, other = (Image.effect_noise((1500, 1000), 90).convert("L") for _ in range(2))
    files = [encode(each, "PNG", compress_level=0) for each in (one, other)]

    assert [len(each) > 1 << 20 for each in files] == [True, True]
    assert await digest(files[0]) != await digest(files[1])


async def test_what_cannot_be_decoded_has_no_digest(digest):
    data = encode(gradient(), "PNG")
    at = data.index(b"IDAT") + 4

    with pytest.raises(InvalidImage, match="damaged"):
        await digest(data[:at] + bytes(20) + data[at + 20 :])
