"""A request is read by the names of its inputs, and what breaks the contract or a limit is refused."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from gemma4_serving.engines import InvalidJobError
from gemma4_serving.request import Limits, read

LIMITS = Limits(max_images=2, max_image_bytes=10_000, max_pixels=10_000)


def strings(*values):
    return np.array(values, dtype=np.object_)


def asked(*, parameters=None, **inputs):
    return read({"text_input": strings(b"what?"), **inputs}.get, parameters or {}, LIMITS)


def encoded(size=(10, 10), file_format="PNG", mode="RGB"):
    buffer = io.BytesIO()
    Image.new(mode, size).save(buffer, file_format)
    return buffer.getvalue()


def test_what_is_not_given_is_left_to_the_engine():
    job = asked().job("id", LIMITS)

    assert (job.user, job.images, job.system, job.thinking, job.max_tokens) == ("what?", (), "", False, 1024)
    assert (job.temperature, job.top_p, job.top_k, job.seed, job.stop, job.image_token_budget) == (
        *(None, None, None, None),
        *((), None),
    )


def test_what_is_given_reaches_the_job():
    request = asked(
        system_prompt=strings(b"be brief"),
        image_bytes=strings(encoded((8, 6)), encoded(file_format="WEBP")),
        image_token_budget=np.array([70], dtype=np.int32),
        guided_json=strings(b'{"type": "object"}'),
        enable_thinking=np.array([True]),
        streaming=np.array([True]),
        sampling_param_max_tokens=np.array([5], dtype=np.int32),
        sampling_param_temperature=np.array([0.5], dtype=np.float32),
        sampling_param_seed=np.array([2**64 - 1], dtype=np.uint64),
        sampling_param_stop=strings(b"\n"),
    )
    job = request.job("id", LIMITS)

    assert request.streaming is True
    assert [image.size for image in job.images] == [(8, 6), (10, 10)]
    assert (job.system, job.schema, job.thinking, job.max_tokens) == ("be brief", {"type": "object"}, True, 5)
    assert (job.temperature, job.seed, job.stop, job.image_token_budget) == (0.5, 2**64 - 1, ("\n",), 70)


@pytest.mark.parametrize(
    "inputs",
    [
        {"text_input": None},
        {"text_input": strings(b"\xff")},
        {"text_input": strings(b"one", b"two")},
        {"image_bytes": strings(*[b""] * 3)},
        {"image_bytes": strings(b" " * 10_001)},
        {"image_token_budget": np.array([100], dtype=np.int32)},
        {"guided_json": strings(b"{")},
        {"guided_json": strings(b"[]")},
        {"sampling_param_max_tokens": np.array([0], dtype=np.int32)},
        {"sampling_param_temperature": np.array([np.nan], dtype=np.float32)},
        {"sampling_param_top_p": np.array([1.5], dtype=np.float32)},
        {"sampling_param_stop": strings(b"")},
        {"parameters": {"contract": 2}},
    ],
)
def test_what_breaks_the_contract_or_a_limit_is_refused(inputs):
    with pytest.raises(InvalidJobError):
        asked(**inputs)


@pytest.mark.parametrize(
    "data",
    [b"no image", encoded()[:45], encoded((101, 100)), encoded(file_format="GIF")],
    ids=["none", "cut", "large", "gif"],
)
def test_an_image_that_is_broken_or_too_large_or_of_another_format_is_refused(data):
    with pytest.raises(InvalidJobError, match="image"):
        asked(image_bytes=strings(data)).job("id", LIMITS)


def test_what_is_transparent_is_white():
    (image,) = asked(image_bytes=strings(encoded(mode="RGBA"))).job("id", LIMITS).images

    assert image.getpixel((0, 0)) == (255, 255, 255)
