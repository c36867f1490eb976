from __future__ import annotations

import io
import struct

import pytest
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo

from gateway.domain import ImagePlan
from gateway.imaging import Limits, Preparer, inspect
from tests.fixtures.pictures import chunk, encode, exif, pixels, stored

LIMITS = Limits()
EVERY_TYPE = frozenset({"image/jpeg", "image/png", "image/webp", "image/gif"})
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b"<x:xmpmeta><secret>52.0 N</secret></x:xmpmeta>"
TEXTS = PngInfo()
TEXTS.add_text("Comment", "secret text")
TEXTS.add_text("Comment", "secret compressed text", zip=True)
TEXTS.add_itxt("XML:com.adobe.xmp", XMP.decode())
TEXTS.add(b"tIME", b"\x07\xea\x0b\x17\x0c\0\0")

WITH_METADATA = {
    "JPEG": encode(stored(), "JPEG", exif=exif(), xmp=XMP, comment=b"secret comment", icc_profile=PROFILE),
    "PNG": encode(stored(), "PNG", exif=exif(), pnginfo=TEXTS, icc_profile=PROFILE),
    "WEBP": encode(stored(), "WEBP", exif=exif(), xmp=XMP, icc_profile=PROFILE),
    "lossless WEBP": encode(stored(), "WEBP", lossless=True, exif=exif(), xmp=XMP),
    "GIF": encode(stored(), "GIF", comment=b"secret comment"),
}
TRACES = [
    b"Exif",
    b"eXIf",
    b"EXIF",
    b"Secret Camera",
    b"secret",
    b"xmpmeta",
    b"XMP ",
    b"tEXt",
    b"zTXt",
    b"iTXt",
    b"tIME",
]


async def sent(data):
    """What goes to a model that takes every format and the picture's own size. No worker is started."""
    source = inspect(data, LIMITS)
    plan = ImagePlan(source.width_px, source.height_px, 0)
    return (await Preparer().prepare(source, plan, media_types=EVERY_TYPE, timeout_s=1)).data


@pytest.mark.parametrize("name", WITH_METADATA)
async def test_metadata_stay_behind(name):
    data = await sent(WITH_METADATA[name])
    assert [trace for trace in TRACES if trace in data] == []


@pytest.mark.parametrize("name", WITH_METADATA)
async def test_pixels_stay_as_they_are(name):
    assert pixels(await sent(WITH_METADATA[name])) == pixels(WITH_METADATA[name])


@pytest.mark.parametrize("name", WITH_METADATA)
async def test_what_is_stripped_has_nothing_more_to_strip(name):
    assert inspect(await sent(WITH_METADATA[name]), LIMITS).parts == ()


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP"])
async def test_the_colour_profile_stays(name):
    with Image.open(io.BytesIO(await sent(WITH_METADATA[name]))) as image:
        assert image.info["icc_profile"] == PROFILE


@pytest.mark.parametrize("name", WITH_METADATA)
async def test_what_follows_the_picture_stays_behind(name):
    data = await sent(WITH_METADATA[name] + b"PK\x03\x04 an archive with <script> in it")
    assert data == await sent(WITH_METADATA[name])


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP"])
async def test_a_picture_without_metadata_is_sent_as_the_same_object(image_format):
    data = encode(stored(), image_format)
    assert await sent(data) is data


async def test_the_second_picture_of_a_file_of_two_stays_behind():
    two = encode(stored(), "MPO", save_all=True, append_images=[stored(3)])
    assert pixels(await sent(two)) == pixels(two)
    assert (await sent(two)).count(b"\xff\xd8\xff") == 1


async def test_the_thumbnail_in_the_jfif_segment_stays_behind():
    data = encode(stored(), "JPEG")
    assert data[2:6] == b"\xff\xe0\x00\x10"
    thumbnail = b"\xff\xe0" + struct.pack(">H", 16 + 3) + data[6:18] + b"\x01\x01" + b"RGB"
    assert await sent(data[:2] + thumbnail + data[20:]) == data


async def test_a_webp_no_longer_announces_what_stayed_behind():
    whole = WITH_METADATA["WEBP"]
    assert (whole[20], (await sent(whole))[20]) == (0x2C, 0x20)


async def test_unknown_chunks_stay_behind():
    data = encode(stored(), "PNG")
    assert await sent(data[:33] + chunk(b"caBX", b"secret") + data[33:]) == data


async def test_a_cmyk_marker_of_adobe_stays_in_a_file_of_three_channels():
    data = encode(stored(), "JPEG")
    adobe = b"\xff\xee\x00\x0eAdobe\x00\x64\0\0\0\0\x00"
    as_rgb = data[:2] + adobe + data[20:]
    assert await sent(as_rgb) is as_rgb


async def test_a_segment_too_short_for_its_name_takes_none_from_its_neighbour():
    data = encode(stored(), "JPEG")
    named_by_junk = data[:2] + b"\xff\xee\x00\x02" + b"Adobe" + data[2:]
    assert await sent(named_by_junk) == data
