"""Images as they come, as they are planned, and as they are sent."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class ImageDetail(IntEnum):
    """How much of the image's detail the model gets to see."""

    LOW = 1
    MEDIUM = 2
    HIGH = 3
    MAX = 4


@dataclass(frozen=True, slots=True, weakref_slot=True)
class SourceImage:
    """An image as the caller sent it, checked by its header alone.

    *width_px* and *height_px* are those of the upright picture; *orientation* is the EXIF value, 1 to 8.
    *plain* says that every decoder shows the same picture: 8 bits a channel, no transparency, no CMYK.
    *parts* make up the same file without metadata: ranges `(start, stop)` of *data*, and bytes to stand between
    them; empty where nothing is to be left out. *field* is the path of the image in the request, for messages.
    """

    data: bytes
    media_type: str
    width_px: int
    height_px: int
    orientation: int = 1
    animated: bool = False
    plain: bool = True
    parts: tuple[tuple[int, int] | bytes, ...] = ()
    field: str = "image"


@dataclass(frozen=True, slots=True)
class ImagePlan:
    """The size at which a model gets an image, and what that costs.

    *token_count* is exact by the model's published rule; 0 for models that count none. *budget* is what the
    provider is told: a soft-token budget for Gemma (70 to 1120), a `detail` for OpenAI; empty when nothing is told.
    """

    width_px: int
    height_px: int
    token_count: int
    budget: str = ""


@dataclass(frozen=True, slots=True)
class SentImage:
    """An image as a model gets it: upright, stripped of metadata, encoded."""

    data: bytes
    media_type: str
    plan: ImagePlan
