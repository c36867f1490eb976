"""Stubs and client of the Vision Gateway.

from visiongateway import VisionClient

with VisionClient("localhost:50051") as client:
    for found in client.detect("photo.jpg", ["cat"]).detections:
        print(found.label, found.box)
"""

from __future__ import annotations

from visiongateway._answers import Annotations, Answer, Row
from visiongateway._async_client import AsyncVisionClient
from visiongateway._async_streams import AsyncComparison, AsyncTextStream
from visiongateway._client import VisionClient
from visiongateway._errors import (
    AccessDenied,
    CostAboveLimit,
    DeadlineExceeded,
    InvalidRequest,
    LimitExceeded,
    Refused,
    Unavailable,
    UnknownDigest,
    UnknownModel,
    Unsupported,
    UnusableAnswer,
    Violation,
    VisionError,
)
from visiongateway._images import ImageSource
from visiongateway._options import Options
from visiongateway._requests import Task
from visiongateway._streams import Comparison, TextStream
from visiongateway.v1.image_pb2 import Image

__all__ = [
    "AccessDenied",
    "Annotations",
    "Answer",
    "AsyncComparison",
    "AsyncTextStream",
    "AsyncVisionClient",
    "Comparison",
    "CostAboveLimit",
    "DeadlineExceeded",
    "Image",
    "ImageSource",
    "InvalidRequest",
    "LimitExceeded",
    "Options",
    "Refused",
    "Row",
    "Task",
    "TextStream",
    "Unavailable",
    "UnknownDigest",
    "UnknownModel",
    "Unsupported",
    "UnusableAnswer",
    "Violation",
    "VisionClient",
    "VisionError",
]
