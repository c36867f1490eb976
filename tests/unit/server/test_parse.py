from __future__ import annotations

from contextlib import suppress

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, strategies as st

from gateway.errors import MalformedRequest
from gateway.server.parse import parse
from visiongateway.v1 import image_pb2, vision_service_pb2 as pb


def _walk(data):
    """Random bytes that look like fields often enough to get somewhere."""
    return b"".join(bytes([number << 3 | kind]) + rest for number, kind, rest in data)


FIELDS = st.lists(st.tuples(st.integers(0, 15), st.integers(0, 7), st.binary(max_size=12)), max_size=8).map(_walk)


@given(st.binary(max_size=64) | FIELDS)
def test_any_bytes_are_a_request_or_malformed(raw):
    with suppress(MalformedRequest):
        assert parse(raw, pb.VQARequest) == pb.VQARequest.FromString(raw)


@given(st.binary(max_size=64) | FIELDS)
def test_what_protobuf_refuses_is_malformed(raw):
    try:
        pb.VQARequest.FromString(raw)
    except DecodeError:
        with pytest.raises(MalformedRequest):
            parse(raw, pb.VQARequest)


@given(
    st.builds(
        pb.VQARequest,
        question=st.text(),
        image=st.builds(image_pb2.Image, data=st.binary()),
        images=st.lists(st.builds(image_pb2.Image, url=st.text())),
    )
)
def test_every_request_is_read_as_it_was_written(request):
    assert parse(request.SerializeToString(), pb.VQARequest) == request


def test_images_may_be_large():
    request = pb.VQARequest(images=[image_pb2.Image(data=bytes(2 << 20))] * 2)
    assert parse(request.SerializeToString(), pb.VQARequest) == request


def test_as_many_fields_as_are_allowed_are_taken():
    request = pb.ClassifyRequest(labels=["a"] * 4096)
    assert parse(request.SerializeToString(), pb.ClassifyRequest) == request
