"""One trace a call, as a collector that others wrote takes it from whole gateways with scripted models."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from tests.fixtures.otlp import tree
from visiongateway.v1 import image_pb2, vision_service_pb2 as pb

PRICE = {"input": "1", "output": "2"}
SERVICE = "visiongateway.v1.VisionService"
PARENT = ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
UPSTREAM = "generate_content"


def model(**options):
    return {"kind": "fake", "profile": "gemma4", "price": PRICE, "answer": "A cat.", "retry": False, **options}


def request(**fields):
    out = io.BytesIO()
    Image.new("RGB", (64, 48), "teal").save(out, "PNG")
    return pb.CaptionRequest(image=image_pb2.Image(data=out.getvalue()), **fields)


@pytest.fixture
def start(start_gateway, traces):
    """Starts gateways whose traces are collected."""

    async def starting(models, tracing=(), **tables):
        return await start_gateway(
            models=models, tracing={"endpoint": traces.endpoint, **dict(tracing)}, images={"workers": 1}, **tables
        )

    return starting


def named(spans, name):
    return next(span for span in spans if span.name == name)


async def test_a_call_is_one_trace_with_a_span_for_each_part_of_its_work(start, traces):
    gateway = await start({"gemma": model()})
    await gateway.stub.Caption(request(), metadata=(("x-request-id", "r-7"),))
    spans = await traces.whole(f"{SERVICE}/Caption")

    assert tree(spans) == [
        [f"{SERVICE}/Caption", ["receive"], ["attempt gemma", ["image"], [f"{UPSTREAM} gemma"]]],
    ]
    assert len({span.trace_id for span in spans}) == 1
