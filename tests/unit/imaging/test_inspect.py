from __future__ import annotations

import pytest

from gateway.errors import InvalidImage
from gateway.imaging import Limits, inspect
from tests.fixtures.pictures import encode, exif, stored

LIMITS = Limits()


@pytest.mark.parametrize(
    ("image_format", "media_type"),
    [("JPEG", "image/jpeg"), ("PNG", "image/png"), ("WEBP", "image/webp"), ("GIF", "image/gif")],
)
def test_the_format_and_size_are_read_from_the_bytes(image_format, media_type):
    source = inspect(encode(stored(), image_format), LIMITS)
    assert (source.media_type, source.width_px, source.height_px) == (media_type, 64, 32)


@pytest.mark.parametrize("lossless", [False, True])
@pytest.mark.parametrize("metadata", [{}, {"exif": exif()}])
def test_every_form_of_webp_tells_its_size(lossless, metadata):
    source = inspect(encode(stored(), "WEBP", lossless=lossless, **metadata), LIMITS)
    assert (source.width_px, source.height_px) == (64, 32)


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_width_and_height_are_those_of_the_upright_picture(image_format, orientation):
    data = encode(stored(orientation), image_format, exif=exif(orientation))
    source = inspect(data, LIMITS)
    assert (source.orientation, source.width_px, source.height_px) == (orientation, 64, 32)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_is_upright(orientation):
    source = inspect(encode(stored(), "JPEG", exif=exif(orientation)), LIMITS)
    assert (source.orientation, source.width_px, source.height_px) == (1, 64, 32)


@pytest.mark.parametrize("at", range(4, 60, 4))
def test_damaged_exif_does_not_make_a_picture_unusable(at):
    metadata = bytearray(exif(6))
    metadata[6 + at : 6 + at + 4] = b"\xff\xff\xff\xff"
    source = inspect(encode(stored(6), "JPEG", exif=bytes(metadata)), LIMITS)
    assert source.orientation in {1, 6}


@pytest.mark.parametrize("image_format", ["PNG", "WEBP", "GIF"])
def test_more_than_one_frame_is_an_animation(image_format):
    frames = [stored(), stored(3)]
    animation = encode(frames[0], image_format, save_all=True, append_images=frames[1:])
    assert [inspect(data, LIMITS).animated for data in (encode(frames[0], image_format), animation)] == [False, True]


@pytest.mark.parametrize(
    ("mode", "image_format", "plain"),
    [
        ("RGB", "JPEG", True),
        ("L", "JPEG", True),
        ("CMYK", "JPEG", False),
        ("RGB", "PNG", True),
        ("P", "PNG", True),
        ("1", "PNG", True),
        ("RGBA", "PNG", False),
        ("LA", "PNG", False),
        ("I;16", "PNG", False),
        ("RGB", "WEBP", True),
        ("RGBA", "WEBP", False),
        ("P", "GIF", True),
    ],
)
def test_pictures_that_decoders_may_show_differently_are_not_plain(mode, image_format, plain):
    image = stored().convert("I").convert(mode) if mode == "I;16" else stored().convert(mode)
    if mode.endswith("A"):
        image.putpixel((0, 0), (0,) * len(mode))
    assert inspect(encode(image, image_format), LIMITS).plain == plain


@pytest.mark.parametrize("image_format", ["PNG", "GIF"])
def test_a_transparent_colour_is_not_plain(image_format):
    image = stored().convert("P")
    assert not inspect(encode(image, image_format, transparency=image.getpixel((0, 0))), LIMITS).plain


def test_a_picture_without_metadata_has_nothing_to_leave_out():
    assert [inspect(encode(stored(), each), LIMITS).parts for each in ("JPEG", "PNG", "WEBP")] == [(), (), ()]


def test_an_error_names_the_field_of_the_image():
    with pytest.raises(InvalidImage) as caught:
        inspect(b"", LIMITS, field="images[1]")
    assert [violation.field for violation in caught.value.violations] == ["images[1]"]


def test_a_source_remembers_its_field():
    assert inspect(encode(stored(), "PNG"), LIMITS, field="images[2]").field == "images[2]"


def test_the_header_alone_tells_size_and_orientation_and_reads_no_further():
    whole = encode(stored(6), "JPEG", exif=exif(6))
    cut = whole[: whole.index(b"\xff\xda") + 16]

    found = inspect(cut, LIMITS, header_only=True)

    full = inspect(whole, LIMITS)
    assert (found.width_px, found.height_px, found.orientation) == (full.width_px, full.height_px, 6)
    with pytest.raises(InvalidImage):
        inspect(cut, LIMITS)
