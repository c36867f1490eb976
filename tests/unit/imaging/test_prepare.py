from __future__ import annotations

import asyncio
import io
import struct
from dataclasses import replace

import pytest
from PIL import Image, ImageCms

from gateway.domain import ImagePlan
from gateway.errors import DeadlineExceeded, InvalidImage
from gateway.imaging import Limits, Preparer, inspect, worker
from gateway.imaging.frames import Job
from tests.fixtures.pictures import (
    BLUE,
    GREEN,
    RED,
    YELLOW,
    chunk,
    corners,
    encode,
    exif,
    lossless_webp_header,
    pixels,
    png_header,
    size,
    stored,
)

pytestmark = pytest.mark.usefixtures("unblocked_loop")
LIMITS = Limits()
BOTH = frozenset({"image/jpeg", "image/png"})
JPEG_ONLY = frozenset({"image/jpeg"})
UPRIGHT = [RED, GREEN, BLUE, YELLOW]


@pytest.fixture
async def preparer():
    async with Preparer() as preparer:
        yield preparer


@pytest.fixture
def jobs(preparer, monkeypatch):
    """The jobs that its workers get."""
    run, given = preparer._pool.run, []

    async def counted(job, data, *, timeout_s):
        given.append(job)
        return await run(job, data, timeout_s=timeout_s)

    monkeypatch.setattr(preparer._pool, "run", counted)
    return given


async def prepared(preparer, data, *, to=None, media_types=BOTH):
    source = inspect(data, LIMITS)
    plan = ImagePlan(*(to or (source.width_px, source.height_px)), token_count=0)
    return await preparer.prepare(source, plan, media_types=media_types, timeout_s=30)


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
async def test_a_picture_arrives_upright(preparer, image_format, orientation):
    data = encode(stored(orientation), image_format, exif=exif(orientation))
    sent = await prepared(preparer, data, to=(32, 16))
    assert (size(sent.data), corners(sent.data)) == ((32, 16), UPRIGHT)


async def test_a_picture_of_the_right_size_is_put_upright_all_the_same(preparer):
    sent = await prepared(preparer, encode(stored(6), "PNG", exif=exif(6)))
    assert pixels(sent.data) == stored().convert("RGBA").tobytes()


@pytest.mark.parametrize("to", [(64, 33), (17, 91), (640, 320), (1, 1)])
async def test_a_picture_gets_exactly_the_planned_size(preparer, to):
    assert size((await prepared(preparer, encode(stored(), "JPEG"), to=to)).data) == to


async def test_a_large_jpeg_is_scaled_while_it_is_decoded(preparer):
    data = encode(stored(5, width=1600, height=800), "JPEG", exif=exif(5))
    sent = await prepared(preparer, data, to=(100, 50))
    assert (size(sent.data), corners(sent.data)) == ((100, 50), UPRIGHT)


@pytest.mark.parametrize("image_format", ["PNG", "WEBP", "GIF"])
async def test_the_first_frame_of_an_animation_is_sent(preparer, image_format):
    options = {} if image_format == "GIF" else {"lossless": True}
    data = encode(stored(), image_format, save_all=True, append_images=[stored(3)], **options)
    sent = await prepared(preparer, data, media_types=BOTH | {"image/gif", "image/webp"})
    assert (sent.media_type in BOTH, corners(sent.data)) == (True, UPRIGHT)


@pytest.mark.parametrize(
    ("mode", "image_format"),
    [
        ("1", "PNG"),
        ("L", "PNG"),
        ("LA", "PNG"),
        ("I;16", "PNG"),
        ("P", "PNG"),
        ("RGB", "PNG"),
        ("RGBA", "PNG"),
        ("L", "JPEG"),
        ("CMYK", "JPEG"),
        ("RGBA", "WEBP"),
        ("P", "GIF"),
        ("L", "GIF"),
    ],
)
@pytest.mark.parametrize("media_type", ["image/jpeg", "image/png"])
async def test_every_kind_of_pixel_becomes_grey_or_rgb_of_8_bits(preparer, mode, image_format, media_type):
    white = Image.new("RGBA", (64, 32), "white").convert("I" if mode == "I;16" else mode)
    if mode == "I;16":
        white = white.point(lambda value: value * 257).convert("I;16")
    sent = await prepared(preparer, encode(white, image_format), to=(32, 16), media_types=frozenset({media_type}))
    with Image.open(io.BytesIO(sent.data)) as image:
        assert (sent.media_type, image.mode in {"L", "RGB"}) == (media_type, True)
        assert set(image.convert("L").tobytes()) <= {254, 255}


async def test_grey_of_16_bits_keeps_its_shades(preparer):
    shades = Image.new("I;16", (3, 1))
    for x, value in enumerate((0, 128 * 257, 65_535)):
        shades.putpixel((x, 0), value)
    sent = await prepared(preparer, encode(shades, "PNG"), media_types=frozenset({"image/png"}))
    with Image.open(io.BytesIO(sent.data)) as image:
        assert list(image.convert("L").tobytes()) == [0, 128, 255]


@pytest.mark.parametrize("image_format", ["PNG", "WEBP"])
async def test_transparent_pixels_show_white_whatever_colour_they_hide(preparer, image_format):
    image = Image.new("RGBA", (64, 32), (*RED, 0))
    sent = await prepared(preparer, encode(image, image_format, lossless=True, exact=True))
    assert corners(sent.data) == [(255, 255, 255)] * 4


async def test_a_transparent_colour_of_a_palette_shows_white(preparer):
    image = stored().convert("P")
    data = encode(image, "PNG", transparency=image.getpixel((0, 0)))
    assert corners((await prepared(preparer, data)).data) == [(255, 255, 255), GREEN, BLUE, YELLOW]


async def test_a_picture_that_could_be_transparent_and_is_not_is_sent_as_it_came(preparer):
    data = encode(stored().convert("RGBA"), "PNG")
    assert (await prepared(preparer, data)).data is data


async def test_a_format_that_the_model_does_not_take_is_encoded_anew(preparer):
    sent = await prepared(preparer, encode(stored(), "WEBP"))
    assert (sent.media_type, corners(sent.data)) == ("image/jpeg", UPRIGHT)


async def test_drawings_stay_lossless(preparer):
    sent = await prepared(preparer, encode(stored(width=256, height=128), "PNG"), to=(128, 64))
    assert sent.media_type == "image/png"


async def test_drawings_become_jpeg_for_models_that_take_nothing_else(preparer):
    sent = await prepared(preparer, encode(stored(), "PNG"), media_types=JPEG_ONLY)
    assert sent.media_type == "image/jpeg"


async def test_photographs_become_jpeg(preparer):
    photograph = Image.effect_noise((256, 128), 60).convert("RGB")
    sent = await prepared(preparer, encode(photograph, "PNG"), to=(128, 64))
    assert sent.media_type == "image/jpeg"


async def test_a_new_encoding_has_no_metadata_but_its_colour_profile(preparer):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    data = encode(stored(), "JPEG", exif=exif(), comment=b"secret", icc_profile=profile)
    sent = await prepared(preparer, data, to=(32, 16))
    with Image.open(io.BytesIO(sent.data)) as image:
        assert set(image.info) - {"jfif", "jfif_version", "jfif_unit", "jfif_density"} == {"icc_profile"}


def test_the_worker_itself_passes_no_comment_on():
    _, picture = worker.prepare(Job("JPEG", 64, 32, 1, 32, 16, "JPEG"), encode(stored(), "JPEG", comment=b"secret"))
    assert b"secret" not in picture


async def test_a_picture_of_another_size_than_was_checked_is_refused(preparer):
    source = replace(inspect(encode(stored(), "JPEG"), LIMITS), width_px=65)
    with pytest.raises(InvalidImage) as caught:
        await preparer.prepare(source, ImagePlan(32, 16, 0), media_types=BOTH, timeout_s=30)
    assert caught.value.limit == "decode"


async def test_the_plan_is_part_of_what_is_sent(preparer):
    source = inspect(encode(stored(), "PNG"), LIMITS)
    plan = ImagePlan(32, 16, token_count=70, budget="70")
    assert (await preparer.prepare(source, plan, media_types=BOTH, timeout_s=30)).plan is plan


DAMAGED = {
    "JPEG without quantisation tables": encode(stored(), "JPEG").replace(b"\xff\xdb", b"\xff\xfe"),
    "PNG without compressed data": png_header(64, 32) + chunk(b"IDAT", b"no zlib stream") + chunk(b"IEND", b""),
    "WebP of impossible codes": lossless_webp_header(64, 32)[:25] + b"\xff" * 9,
    "GIF without pixels": b"GIF89a" + struct.pack("<HHBBBB4xHHBBB", 64, 32, 0, 0, 0, 0x2C, 64, 32, 0, 8, 0) + b";",
}


@pytest.mark.parametrize("name", DAMAGED)
async def test_a_damaged_picture_is_refused_by_its_field(preparer, name):
    source = inspect(DAMAGED[name], LIMITS, field="images[1]")
    with pytest.raises(InvalidImage) as caught:
        await preparer.prepare(source, ImagePlan(32, 32, 0), media_types=BOTH, timeout_s=30)
    assert (caught.value.limit, caught.value.field) == ("decode", "images[1]")


async def test_many_images_at_once_each_get_their_own_answer(preparer):
    data = encode(stored(), "JPEG")
    results = await asyncio.gather(*(prepared(preparer, data, to=(side, side)) for side in range(1, 30)))
    assert [size(sent.data) for sent in results] == [(side, side) for side in range(1, 30)]


async def test_the_same_picture_of_an_image_is_made_once_however_many_want_it_at_once(preparer, jobs):
    source = inspect(encode(stored(), "JPEG"), Limits())
    plan = ImagePlan(32, 16, 0)

    sent = await asyncio.gather(
        *(preparer.prepare(source, plan, media_types=BOTH, timeout_s=30) for _ in range(3)),
        preparer.prepare(source, replace(plan, width_px=16), media_types=BOTH, timeout_s=30),
    )
    later = await preparer.prepare(source, plan, media_types=BOTH, timeout_s=30)

    assert ([picture is later for picture in sent], len(jobs)) == ([True, True, True, False], 2)


async def test_a_picture_is_kept_no_longer_than_its_image(preparer):
    source = inspect(encode(stored(), "JPEG"), Limits())
    await preparer.prepare(source, ImagePlan(32, 16, 0), media_types=BOTH, timeout_s=30)
    kept = len(preparer._made._made)

    del source

    assert (kept, len(preparer._made._made)) == (1, 0)


async def test_who_waits_for_a_picture_waits_no_longer_than_its_own_time(preparer, monkeypatch):
    source = inspect(encode(stored(), "JPEG"), Limits())
    monkeypatch.setattr(preparer._pool, "run", lambda *_, **__: asyncio.Event().wait())
    patient = asyncio.create_task(preparer.prepare(source, ImagePlan(32, 16, 0), media_types=BOTH, timeout_s=30))
    await asyncio.sleep(0)

    with pytest.raises(DeadlineExceeded):
        await preparer.prepare(source, ImagePlan(32, 16, 0), media_types=BOTH, timeout_s=0)
    assert not patient.done()
    patient.cancel()


async def test_who_has_time_left_makes_the_picture_that_another_had_no_time_for(preparer, jobs):
    source = inspect(encode(stored(), "JPEG"), Limits())
    hasty, patient = (
        asyncio.create_task(preparer.prepare(source, ImagePlan(32, 16, 0), media_types=BOTH, timeout_s=timeout_s))
        for timeout_s in (0, 30)
    )

    with pytest.raises(DeadlineExceeded):
        await hasty
    assert ((await patient).plan.width_px, len(jobs)) == (32, 2)
