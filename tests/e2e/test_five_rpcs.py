"""All five RPCs through `gpt-5.5`, with aimock, a server that others wrote, in OpenAI's place."""

from __future__ import annotations

import base64
import io
import json
import re

import pytest
from google.protobuf.json_format import MessageToDict
from PIL import Image

from visiongateway.v1 import call_pb2, image_pb2, vision_service_pb2 as pb

USAGE = {"input_tokens": 1400, "output_tokens": 138, "total_tokens": 1538}
COST_NANO_USD = 11_140_000
RED, BLUE = (220, 20, 20), (20, 20, 220)
WIDTH, HEIGHT = 640, 400


@pytest.fixture
async def gateway(tapped_aimock, start_gateway, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-test")
    return await start_gateway(models={"gpt-5.5": {"kind": "openai", "base_url": f"{tapped_aimock.url}/v1"}})


def upright_picture():
    """Blue, with a red rectangle whose edges are whole fractions of the picture."""
    picture = Image.new("RGB", (WIDTH, HEIGHT), BLUE)
    picture.paste(RED, (64, 80, 320, 200))
    return picture


def stored(orientation):
    """The same picture as a camera would store it with *orientation*: turned, and a tag that says how."""
    back = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    picture = upright_picture()
    picture = picture.transpose(back[orientation]) if orientation in back else picture
    exif = Image.Exif()
    exif[0x0112] = orientation
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=95, exif=exif)
    return out.getvalue()


def sent_picture(tap):
    (url,) = re.findall(rb"data:image/[a-z]+;base64,([A-Za-z0-9+/=]+)", bytes(tap.sent))
    return Image.open(io.BytesIO(base64.b64decode(url)))


IMAGE = image_pb2.Image(data=stored(1))
CALLS = [
    ("Caption", pb.CaptionRequest(image=IMAGE), "A red box.", {"text": "A red box."}),
    ("OCR", pb.OCRRequest(image=IMAGE), "STOP\nHERE", {"text": "STOP\nHERE"}),
    (
        "Detect",
        pb.DetectRequest(image=IMAGE, labels=["box"]),
        json.dumps({"detections": [{"label": "box", "box_2d": [64, 80, 320, 200]}]}),
        {"detections": [{"label": "box", "box": {"xMin": 0.1, "yMin": 0.2, "xMax": 0.5, "yMax": 0.5}}]},
    ),
    (
        "Classify",
        pb.ClassifyRequest(image=IMAGE, labels=["cat", "box"]),
        json.dumps({"labels": [{"label": "box"}]}),
        {"labels": [{"label": "box"}]},
    ),
    ("VQA", pb.VQARequest(image=IMAGE, question="What colour?"), "Red.", {"answer": "Red."}),
]


@pytest.mark.parametrize(("rpc", "request_", "text", "expected"), CALLS, ids=[call[0] for call in CALLS])
async def test_every_rpc_gives_its_typed_answer_and_the_exact_bill(gateway, aimock, rpc, request_, text, expected):
    aimock.answer(text, usage=USAGE, model="gpt-5.5-2026-04-23")

    response = await getattr(gateway.stub, rpc)(request_, timeout=10)

    info = response.info
    response.ClearField("info")
    assert MessageToDict(response) == expected
    assert (info.model, info.backend, info.provider_model) == ("gpt-5.5", "openai", "gpt-5.5-2026-04-23")
    assert (info.cost_nano_usd, info.cost_basis) == (COST_NANO_USD, call_pb2.COST_BASIS_BILLED)
    usage = info.usage
    assert usage.input_text_token_count + usage.input_image_token_count == 1400
    assert usage.output_token_count == 138
    assert usage.input_image_token_count > 0
    assert [(attempt.model, attempt.outcome) for attempt in info.attempts] == [("gpt-5.5", call_pb2.ATTEMPT_OUTCOME_OK)]


@pytest.mark.parametrize("orientation", range(1, 9))
async def test_pixel_boxes_come_back_as_fractions_of_the_upright_original(gateway, aimock, tapped_aimock, orientation):
    aimock.answer(json.dumps({"detections": [{"label": "box", "box_2d": [64, 80, 320, 200]}]}), usage=USAGE)

    request = pb.DetectRequest(image=image_pb2.Image(data=stored(orientation)), labels=["box"])
    response = await gateway.stub.Detect(request, timeout=10)

    box = response.detections[0].box
    assert (box.x_min, box.y_min, box.x_max, box.y_max) == pytest.approx((0.1, 0.2, 0.5, 0.5))
    assert (response.info.image.width_px, response.info.image.height_px) == (WIDTH, HEIGHT)
    sent = sent_picture(tapped_aimock)
    assert sent.size == (WIDTH, HEIGHT)
    assert dict(sent.getexif()) == {}
    inside, outside = sent.getpixel((192, 140)), sent.getpixel((500, 350))
    assert inside == pytest.approx(RED, abs=12)
    assert outside == pytest.approx(BLUE, abs=12)


async def test_a_big_image_is_shrunk_before_it_is_sent_and_boxes_still_fit(gateway, aimock, tapped_aimock):
    out = io.BytesIO()
    upright_picture().resize((4096, 2560)).save(out, "JPEG")
    aimock.answer(json.dumps({"detections": [{"label": "box", "box_2d": [100, 100, 200, 200]}]}), usage=USAGE)

    request = pb.DetectRequest(image=image_pb2.Image(data=out.getvalue()), labels=["box"])
    response = await gateway.stub.Detect(request, timeout=20)

    sent = sent_picture(tapped_aimock)
    image = response.info.image
    assert (image.sent_width_px, image.sent_height_px) == sent.size
    assert max(sent.size) <= 2048
    assert (image.width_px, image.height_px) == (4096, 2560)
    assert response.detections[0].box.x_max == pytest.approx(200 / sent.width)
