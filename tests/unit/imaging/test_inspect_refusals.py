from __future__ import annotations

import struct

import pytest
from PIL import Image

from gateway.errors import InvalidImage
from gateway.imaging import LIMIT_NAMES, Limits, inspect
from tests.fixtures.pictures import (
    chunk,
    encode,
    exif,
    jpeg_with_scans,
    lossless_webp_header,
    png_header,
    stored,
)

LIMITS = Limits()
GIF_HEADER = b"GIF89a" + struct.pack("<HHBBB", 64, 32, 0, 0, 0)
FORMATS = ["JPEG", "PNG", "WEBP", "GIF"]


def refusal(data, limits=LIMITS):
    with pytest.raises(InvalidImage) as caught:
        inspect(data, limits)
    assert caught.value.limit in LIMIT_NAMES
    return caught.value.limit, str(caught.value)


def test_no_bytes_are_refused():
    assert refusal(b"") == ("empty", "the image is empty (0 bytes); send the bytes of a JPEG, PNG, WebP or GIF file")


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"This is a text file that was named photo.jpg.\n", "Text"),
        ("Grüße aus Köln".encode(), "Text"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"),
        (b"\0\0\0\x1cftypavif\0\0\0\0avifmif1", "AVIF"),
        (b"\0\0\0\x20ftypisom\0\0\x02\0isomiso2", "Video (MP4 or QuickTime)"),
        (encode(stored(), "TIFF"), "TIFF"),
        (encode(stored(), "BMP"), "BMP"),
        (encode(stored(), "PDF"), "PDF"),
        (encode(stored(), "JPEG2000"), "JPEG 2000"),
        (encode(stored(), "ICO"), "ICO"),
        (b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>', "SVG"),
        (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "SVG"),
        (b"<!DOCTYPE html><html></html>", "HTML"),
        (b"iVBORw0KGgoAAAANSUhEUgAA", "Base64 text in place of the bytes that it stands for"),
        (b"data:image/png;base64,iVBORw0KGgo", "Base64 text in place of the bytes that it stands for"),
        (b"PK\x03\x04\x14\0\0\0\x08\0", "ZIP"),
    ],
)
def test_another_format_is_refused_by_its_name(data, name):
    assert refusal(data) == ("format", f"{name} is not accepted; send JPEG, PNG, WebP or GIF")


def test_unknown_bytes_are_refused():
    assert refusal(bytes(range(256))) == (
        "format",
        "the bytes are not an image of a known format; send JPEG, PNG, WebP or GIF",
    )


def test_a_format_that_the_operator_does_not_accept_is_refused():
    assert refusal(encode(stored(), "WEBP"), Limits(formats=("JPEG", "PNG"))) == (
        "format",
        "WebP is not accepted; send JPEG or PNG",
    )


def test_too_many_bytes_are_refused():
    data = encode(stored(), "PNG")
    assert refusal(data, Limits(max_bytes=len(data) - 1))[0] == "bytes"


def test_as_many_bytes_as_the_limit_are_accepted():
    data = encode(stored(), "PNG")
    assert inspect(data, Limits(max_bytes=len(data))).width_px == 64


@pytest.mark.parametrize(
    ("data", "limit", "found"),
    [
        (png_header(30_000, 30_000), "pixels", "30,000 x 30,000 pixels (900.0 megapixels)"),
        (png_header(20_000, 10), "side", "20,000 x 10 pixels"),
        (png_header(0, 10), "side", "0 x 10 pixels"),
        (png_header(2**31, 2**31), "pixels", "2,147,483,648 x 2,147,483,648 pixels"),
        (lossless_webp_header(9_000, 9_000), "pixels", "9,000 x 9,000 pixels (81.0 megapixels)"),
        (b"GIF89a" + struct.pack("<HHBBB", 65_535, 65_535, 0, 0, 0), "pixels", "65,535 x 65,535 pixels"),
    ],
)
def test_a_picture_too_big_or_too_small_is_refused_by_its_header_alone(data, limit, found):
    named, message = refusal(data)
    assert named == limit
    assert found in message


def test_a_jpeg_too_big_is_refused_by_its_header_alone():
    data = bytearray(encode(stored(), "JPEG"))
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", 30_000, 30_000)
    assert refusal(bytes(data))[0] == "pixels"


def test_a_gif_whose_frame_is_larger_than_its_screen_is_measured_by_its_frame():
    data = bytearray(encode(stored(), "GIF"))
    frame = data.index(b"\x2c", 13 + 3 * 2 ** ((data[10] & 7) + 1))
    data[frame + 5 : frame + 9] = struct.pack("<HH", 60_000, 60_000)
    assert refusal(bytes(data))[0] == "pixels"


def test_a_webp_whose_picture_is_larger_than_its_header_is_refused():
    data = bytearray(encode(stored(), "WEBP", lossless=True, exif=exif()))
    picture = data.index(b"VP8L") + 9
    data[picture : picture + 4] = struct.pack("<I", 8_999 | 8_999 << 14)
    assert refusal(bytes(data))[0] == "decode"


@pytest.mark.parametrize("image_format", FORMATS)
def test_no_beginning_of_a_file_is_taken_for_the_whole(image_format):
    metadata = {} if image_format == "GIF" else {"exif": exif()}
    data = encode(stored(), image_format, **metadata)
    limits = {refusal(data[:size])[0] for size in range(16, len(data))}
    assert limits == {"truncated"}


def test_a_jpeg_cut_off_after_the_preview_in_its_metadata_is_refused():
    preview = encode(stored(), "JPEG")
    application = b"\xff\xe1" + struct.pack(">H", 2 + 6 + len(preview)) + b"Exif\0\0" + preview
    data = encode(stored(), "JPEG")
    whole = data[:2] + application + data[2:]
    assert inspect(whole, LIMITS).width_px == 64
    assert refusal(whole[:-2])[0] == "truncated"


def test_a_jpeg_of_thousands_of_scans_is_refused():
    assert refusal(jpeg_with_scans(5_000))[0] == "scans"


def test_a_jpeg_of_the_usual_scans_is_accepted():
    assert inspect(jpeg_with_scans(10), LIMITS).width_px == 64


def test_scans_in_a_comment_do_not_count():
    data = encode(stored(), "JPEG", comment=b"\xff\xda" * 1_000)
    assert inspect(data, LIMITS).width_px == 64


def test_scans_hidden_behind_an_end_in_a_comment_count():
    data = jpeg_with_scans(100)
    last = data.rindex(b"\xff\xda")
    second = data.index(b"\xff\xda", data.index(b"\xff\xda") + 2)
    assert second < last
    comment = b"\xff\xfe\x00\x04\xff\xd9"
    assert refusal(data[:second] + comment + data[second:])[0] == "scans"


@pytest.mark.parametrize("kind", [b"tEXt", b"iTXt", b"zTXt"])
def test_a_png_with_too_many_texts_is_refused(kind):
    data = encode(stored(), "PNG")
    texts = chunk(kind, b"Comment\0\0\0\0\0") * 300_000
    assert refusal(data[:33] + texts + data[33:])[0] == "text_chunks"


@pytest.mark.parametrize(
    ("start", "part"),
    [
        (b"\xff\xd8", b"\xff\xdd\x00\x04\x00\x00"),
        (b"\xff\xd8", b"\xff\xfe\x00\x10" + bytes(14)),
        (png_header(64, 32), chunk(b"IDAT", b"")),
        (GIF_HEADER, b"\x21\xfe\x00"),
        (b"RIFF\xff\xff\x0f\x00WEBP" + lossless_webp_header(64, 32)[12:], b"junk\0\0\0\0"),
    ],
)
def test_a_file_of_countless_parts_is_refused(start, part):
    assert refusal(start + part * 131_072)[0] == "parts"


def test_a_gif_frame_of_countless_blocks_is_refused():
    frame = b"\x2c" + bytes(8) + b"\0\x08"
    assert refusal(GIF_HEADER + frame + b"\x01a" * 200_000)[0] == "parts"


@pytest.mark.parametrize("filler", [b"\xff\x00", b"\xff\xff", b"\xff\xd0"])
def test_a_big_jpeg_made_of_0xff_is_refused(filler):
    data = encode(stored(), "JPEG")
    assert refusal(data[:-2] + filler * (1 << 20) + data[-2:])[0] == "parts"


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xd8\xff\xd9",
        encode(stored(), "JPEG").replace(b"\xff\xc0", b"\xff\xc4", 1),
        encode(stored(), "JPEG").replace(b"\xff\xc4", b"\xff\xbf", 1),
        encode(stored(), "PNG").replace(b"IHDR", b"CgBI"),
        png_header(64, 32) + chunk(b"IEND", b""),
        encode(stored(), "PNG")[:24] + b"\x07" + encode(stored(), "PNG")[25:],
        encode(stored(), "WEBP").replace(b"VP8 ", b"VP9 "),
        encode(stored(), "WEBP").replace(b"\x9d\x01\x2a", b"\0\0\0"),
        GIF_HEADER + b";",
        GIF_HEADER + b"?" * 100,
    ],
)
def test_a_file_that_is_not_what_its_format_allows_is_refused(data):
    assert refusal(data)[0] == "decode"


def test_a_jpeg_of_two_frames_is_refused():
    data = encode(Image.new("L", (64, 32)), "JPEG")
    frame = data.index(b"\xff\xc0")
    length = 2 + struct.unpack_from(">H", data, frame + 2)[0]
    assert refusal(data[:frame] + data[frame : frame + length] * 2 + data[frame + length :])[0] == "decode"


def test_a_frame_segment_too_short_for_a_size_takes_none_from_its_neighbour():
    data = encode(stored(), "JPEG")
    size = data.index(b"\xff\xc0") + 2
    assert refusal(data[:size] + b"\x00\x02" + data[size + 2 :])[0] == "truncated"
