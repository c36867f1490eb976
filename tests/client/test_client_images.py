"""Whatever a caller has becomes the image that is sent."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading

import pytest
from PIL import Image as Pillow

from visiongateway import AsyncVisionClient, Image, VisionClient
from visiongateway._images import load_image

DATA = b"\xff\xd8not decoded by the client"


def test_a_path_is_read(tmp_path):
    path = tmp_path / "photo.jpg"
    path.write_bytes(DATA)

    assert [load_image(path), load_image(str(path))] == [Image(data=DATA)] * 2


@pytest.mark.parametrize("source", [DATA, bytearray(DATA), memoryview(DATA), Image(data=DATA)])
def test_bytes_and_messages_are_taken_as_they_are(source):
    assert load_image(source) == Image(data=DATA)


@pytest.mark.parametrize("url", ["https://example.com/photo.jpg", "http://example.com/photo.jpg"])
def test_an_address_is_left_for_the_gateway_to_fetch(url):
    assert load_image(url) == Image(url=url)


@pytest.mark.parametrize("source", [None, 7, ["photo.jpg"]])
def test_what_is_no_image_is_told(source):
    with pytest.raises(TypeError, match=f"not {type(source).__name__}"):
        load_image(source)


def test_a_missing_file_is_told_as_such(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_image(tmp_path / "nowhere.jpg")


def decode(message):
    picture = Pillow.open(io.BytesIO(message.data))
    picture.load()
    return picture


@pytest.mark.parametrize("mode", ["1", "I;16", "LA", "P", "RGBA"])
def test_a_pillow_image_that_jpeg_would_change_keeps_every_pixel(mode):
    picture = Pillow.linear_gradient("L").convert(mode) if mode != "I;16" else Pillow.new(mode, (9, 9), 40_000)

    sent = decode(load_image(picture))

    assert (sent.format, sent.convert(mode).tobytes()) == ("PNG", picture.tobytes())


@pytest.mark.parametrize(
    ("mode", "expected"), [("RGB", "RGB"), ("L", "L"), ("CMYK", "CMYK"), ("HSV", "RGB"), ("F", "RGB")]
)
def test_other_pillow_images_go_as_fine_jpeg(mode, expected):
    sent = decode(load_image(Pillow.new(mode, (64, 48))))

    assert (sent.format, sent.mode, sent.size) == ("JPEG", expected, (64, 48))


def photo(format_):
    """A camera's file: lying on its side, with a place in its EXIF."""
    picture = Pillow.new("RGB", (64, 48), "red")
    exif = picture.getexif()
    exif[0x0112] = 6
    exif[0x010F] = "camera"
    file = io.BytesIO()
    picture.save(file, format_, exif=exif)
    return Pillow.open(file)


@pytest.mark.parametrize("format_", ["JPEG", "PNG"])
def test_a_pillow_image_goes_upright_and_without_exif(format_):
    sent = decode(load_image(photo(format_)))

    assert (sent.size, dict(sent.getexif())) == ((48, 64), {})


def test_a_transparent_pillow_image_goes_without_exif():
    picture = photo("PNG").convert("RGBA")

    sent = decode(load_image(picture))

    assert (sent.format, dict(sent.getexif())) == ("PNG", {})


async def test_an_asyncio_client_reads_files_off_the_loop(scripted_gateway, tmp_path):
    class Watched(os.PathLike):
        def __fspath__(self):
            threads.append(threading.current_thread())
            return str(path)

    threads = []
    path = tmp_path / "photo.jpg"
    path.write_bytes(DATA)

    async with AsyncVisionClient(scripted_gateway.address) as client:
        await client.vqa(DATA, "Same?", images=[Watched()])

    assert scripted_gateway.attempts[0].request.images == [Image(data=DATA)]
    assert threads
    assert threading.main_thread() not in threads


def test_a_synchronous_client_takes_several_kinds_in_one_call(scripted_gateway, tmp_path):
    path = tmp_path / "photo.jpg"
    path.write_bytes(DATA)

    with VisionClient(scripted_gateway.address) as client:
        client.vqa(path, "Same?", images=[DATA, str(path)])

    (attempt,) = scripted_gateway.attempts
    assert [image.data for image in (attempt.request.image, *attempt.request.images)] == [DATA] * 3


def test_the_client_does_not_import_pillow():
    code = "import sys, visiongateway; print('PIL' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "False\n"
