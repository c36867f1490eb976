"""Draws boxes and lines of text on the picture they were found in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from PIL import Image, ImageDraw, ImageFont, ImageOps

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_COLOURS = ("#e6194b", "#3cb44b", "#4363d8", "#f58231", "#911eb4", "#008080", "#9a6324", "#808000")
_Outline = tuple[str, list[tuple[float, float]]]


def draw(picture: Path, response: Any, out: Path) -> None:
    """Writes *picture*, upright, to *out* with the detections or lines of *response* on it."""
    with Image.open(picture) as opened:
        upright = ImageOps.exif_transpose(opened).convert("RGB")
    pen = ImageDraw.Draw(upright)
    width = max(2, min(upright.size) // 200)
    size = max(12, min(upright.size) // 30)
    font = ImageFont.load_default(size)
    for index, (label, corners) in enumerate(_outlines(response)):
        colour = _COLOURS[index % len(_COLOURS)]
        points = [(x * upright.width, y * upright.height) for x, y in corners]
        pen.line([*points, points[0]], fill=colour, width=width, joint="curve")
        left, top = max(min(x for x, _ in points), 0), min(y for _, y in points)
        tall = size * 1.3
        at = (left + width, top - tall if top >= tall else top + width)
        pen.rectangle(pen.textbbox(at, label, font=font), fill=colour)
        pen.text(at, label, fill="white", font=font)
    upright.save(out, "PNG")


def _outlines(response: Any) -> Iterator[_Outline]:
    for each in getattr(response, "detections", ()):
        box = each.box
        corners = [(box.x_min, box.y_min), (box.x_max, box.y_min), (box.x_max, box.y_max), (box.x_min, box.y_max)]
        yield each.label, corners
    for line in getattr(response, "lines", ()):
        if line.polygon.points:
            yield line.text, [(point.x, point.y) for point in line.polygon.points]
