"""Requests that hold more images than the one that boxes speak of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.errors import Violation

if TYPE_CHECKING:
    from collections.abc import Iterator

    from visiongateway.v1 import image_pb2, vision_service_pb2 as pb

_MOST = 7


def violations(request: pb.VQARequest | pb.PromptRequest) -> Iterator[Violation]:
    """Yields that *request* has too many."""
    if len(request.images) > _MOST:
        yield Violation("images", f"has {len(request.images)} more images; at most {_MOST} are allowed")


def listed(request: pb.VQARequest | pb.PromptRequest) -> list[tuple[str, image_pb2.Image]]:
    """Lists the images of *request* in order, with their field paths."""
    return [("image", request.image), *((f"images[{index}]", image) for index, image in enumerate(request.images))]
