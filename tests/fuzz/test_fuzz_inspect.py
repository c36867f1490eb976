"""Whatever the bytes are, `inspect` takes or refuses them; what it takes can be stripped and stays what it was."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings, strategies as st
from PIL import Image

from gateway.errors import InvalidImage
from gateway.imaging import LIMIT_NAMES, Limits, inspect
from tests.fixtures.pictures import encode, exif, jpeg_with_scans, stored

LIMITS = Limits(max_png_text_chunks=2, max_jpeg_scans=12)
SEEDS = [
    encode(stored(6), "JPEG", exif=exif(6), comment=b"comment"),
    encode(stored().convert("CMYK"), "JPEG"),
    jpeg_with_scans(12),
    encode(stored(), "MPO", save_all=True, append_images=[stored(3)]),
    encode(stored(8), "PNG", exif=exif(8)),
    encode(stored().convert("P"), "PNG", transparency=1),
    encode(stored(), "PNG", save_all=True, append_images=[stored(3)]),
    encode(stored(), "WEBP"),
    encode(stored().convert("RGBA"), "WEBP", exif=exif(5)),
    encode(stored(), "WEBP", lossless=True),
    encode(stored(), "WEBP", save_all=True, append_images=[stored(3)]),
    encode(stored(), "GIF", comment=b"comment"),
    encode(stored(), "GIF", save_all=True, append_images=[stored(3)], transparency=1),
    encode(Image.new("1", (1, 1)), "PNG"),
]


@st.composite
def mutated(draw):
    """A small picture with up to 8 places overwritten, cut out, repeated, or stuffed."""
    data = draw(st.sampled_from(SEEDS))
    for _ in range(draw(st.integers(1, 8))):
        at = draw(st.integers(0, len(data)))
        length = draw(st.integers(0, 64))
        piece = draw(
            st.one_of(
                st.binary(max_size=8),
                st.sampled_from(
                    [b"\xff", b"\xff\xd9", b"\xff\xda", b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff"]
                ),
                st.just(data[at : at + length]),
                st.just(data[at : at + length] * 20),
            )
        )
        data = data[:at] + piece + data[at + draw(st.sampled_from([0, len(piece), length])) :]
    return data


def taken(data):
    try:
        return inspect(data, LIMITS)
    except InvalidImage as exc:
        refused = exc
    assert refused.limit in LIMIT_NAMES
    assert len(str(refused)) < 400
    return None


def without_metadata(source):
    parts = source.parts or [(0, len(source.data))]
    return b"".join(part if isinstance(part, bytes) else source.data[slice(*part)] for part in parts)


@settings(max_examples=1_000, deadline=None)
@given(mutated())
@example(b"")
def test_mutated_pictures_are_taken_or_refused(data):
    source = taken(data)
    if source is not None:
        assert min(source.width_px, source.height_px) >= 1
        assert source.orientation in range(1, 9)


@settings(max_examples=1_000, deadline=None)
@given(mutated())
def test_stripping_keeps_the_picture_and_leaves_nothing_to_strip(data):
    source = taken(data)
    if source is not None:
        again = inspect(without_metadata(source), LIMITS)
        assert again.parts == ()
        stored_size = {source.width_px, source.height_px}
        assert ({again.width_px, again.height_px}, again.plain) == (stored_size, source.plain)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([seed[:n] for seed in SEEDS for n in (0, 4, 12, 30)]), st.binary(max_size=400))
def test_noise_behind_a_signature_is_taken_or_refused(start, noise):
    taken(start + noise)


@pytest.mark.parametrize("seed", SEEDS)
def test_every_seed_is_a_picture(seed):
    assert taken(seed) is not None
