"""What was found, drawn on the picture, against a gateway that answers from a script."""

from __future__ import annotations

import pytest
from PIL import Image

from visiongateway.v1 import call_pb2, geometry_pb2, vision_service_pb2 as pb

DATA = b"\xff\xd8image"
DATA_JSON = {"data": "/9hpbWFnZQ=="}
NOBODY = "127.0.0.1:1"  # A port that nothing listens on.


@pytest.fixture
def picture(tmp_path):
    """A white picture that lies on its side: 100 x 200 pixels when upright."""
    path = tmp_path / "white.jpg"
    image = Image.new("RGB", (200, 100), "white")
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(path, exif=exif)
    return path


SQUARE = [geometry_pb2.Point(x=x, y=y) for x, y in ((0.2, 0.5), (0.8, 0.5), (0.8, 0.9), (0.2, 0.9))]
DRAWN = {
    "detect": pb.DetectResponse(
        detections=[pb.Detection(label="cat", box=geometry_pb2.BoundingBox(x_min=0.2, y_min=0.5, x_max=0.8, y_max=0.9))]
    ),
    "ocr": pb.OCRResponse(lines=[pb.TextLine(text="cat", polygon=geometry_pb2.Polygon(points=SQUARE))]),
}


@pytest.mark.parametrize("command", DRAWN)
def test_what_was_found_is_drawn_on_the_upright_picture(run, scripted_gateway, picture, tmp_path, command):
    response = DRAWN[command]
    scripted_gateway.script(response.DESCRIPTOR.name.removesuffix("Response"), response)

    result = run(command, picture, "--draw", tmp_path / "out.png")

    with Image.open(tmp_path / "out.png") as drawn:
        assert (result.exit_code, drawn.format, drawn.size) == (0, "PNG", (100, 200))
        red = (230, 25, 75)
        edges = [(20, 150), (80, 150), (50, 179)]
        assert [drawn.getpixel(at) for at in edges] == [red] * 3
        assert [drawn.getpixel(at) for at in ((50, 150), (10, 150), (50, 190))] == [(255, 255, 255)] * 3


def test_drawing_lines_asks_for_their_outlines(run, scripted_gateway, picture, tmp_path):
    run("ocr", picture, "--draw", tmp_path / "out.png")

    assert scripted_gateway.attempts[0].request.with_regions


def test_an_answer_that_cannot_be_drawn_is_printed_all_the_same(run, scripted_gateway, picture, tmp_path):
    info = call_pb2.CallInfo(model="gemma", cost_nano_usd=11_140_000)
    info.timing.total.FromMilliseconds(812)
    scripted_gateway.script("Detect", pb.DetectResponse(info=info))
    out = tmp_path / "nowhere" / "out.png"

    result = run("detect", picture, "--draw", out)

    assert result.exit_code == 1
    assert result.stdout == "(no object found)\ngemma · 812 ms · $0.01114\n"
    assert result.stderr == f"Nothing could be drawn: {out}: No such file or directory\n"
