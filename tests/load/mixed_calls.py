"""Calls of every kind, drawn by chance: good ones, garbage, and such as are given up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from google.protobuf.message import Message

from tests.fixtures.pictures import encode, stored
from visiongateway.v1 import call_pb2, image_pb2, vision_service_pb2 as pb

TASKS = ("Caption", "OCR", "Detect", "Classify", "VQA", "Prompt")
_STREAMS = ("StreamCaption", "StreamOCR", "StreamVQA", "StreamPrompt")
# How often each is called, of every hundred.
_RPCS = {
    **dict.fromkeys(TASKS, 9),
    **dict.fromkeys(_STREAMS, 8),
    "Annotate": 4,
    "Compare": 4,
    "Quote": 4,
    "ListModels": 2,
}
_PHOTO = (Path(__file__).parents[1] / "photos" / "coffee.png").read_bytes()
_IMAGES = [
    encode(stored(), "PNG"),
    encode(stored(6, width=320, height=200), "JPEG"),
    encode(stored(width=900, height=100), "WEBP"),
    # Has to be shrunk.
    encode(stored(width=2400, height=1600), "JPEG"),
]
_BAD_IMAGES = [
    b"",
    b"no image",
    _PHOTO[:2000],
    encode(stored(), "BMP"),
    encode(stored(width=640, height=480), "JPEG")[:-900],
]
_QUESTIONS = [
    "What colour is it?",
    "How many are there?",
    "Is this cut short?",
    "Is it brokenware?",
    "Why is it filtered?",
]
_LABELS = [["teapot"], ["kettle", "cup"], ["brokenware"], []]
_KEYS = ("alice", "bob", "carol", "dave")
_SHORT_S = (0.001, 0.005, 0.02, 0.05, 0.1, 0.3)
_LONG_S = (1.0, 2.0, 5.0)


@dataclass(frozen=True)
class Call:
    """One call as it is to be made: the bytes of its message, and when it is given up."""

    request_id: str
    rpc: str
    message: bytes
    metadata: tuple[tuple[str, str], ...]
    timeout_s: float
    cancel_after_s: float | None = None

    @property
    def is_stream(self) -> bool:
        """Whether answers come in several messages."""
        return self.rpc.startswith("Stream") or self.rpc == "Compare"


def draw(random: Random, number: int, *, routes: Sequence[str], models: Sequence[str]) -> Call:
    """The call with this *number*; *routes* and *models* are those of the gateway."""
    rpc = random.choices([*_RPCS], [*_RPCS.values()])[0]
    message = _request(random, rpc, routes, models).SerializeToString()
    key = random.choice((*_KEYS, *_KEYS, ""))
    if chance := random.random() < 0.02:
        message = bytes(random.randrange(256) for _ in range(40))
    elif random.random() < 0.02:
        key = "nobody"
    elif random.random() < 0.01:
        rpc = "Translate"
    is_short = not chance and random.random() < 0.08
    request_id = f"chaos-{number}"
    metadata = (("x-request-id", request_id), *((("authorization", f"Bearer {key}"),) if key else ()))
    return Call(
        request_id,
        rpc,
        message,
        metadata,
        timeout_s=random.choice(_SHORT_S if is_short else _LONG_S),
        cancel_after_s=random.choice(_SHORT_S) if random.random() < 0.08 else None,
    )


def _request(random: Random, rpc: str, routes: Sequence[str], models: Sequence[str]) -> Message:
    if rpc == "ListModels":
        return pb.ListModelsRequest()
    if rpc == "Annotate":
        return pb.AnnotateRequest(
            image=_image(random),
            options=_options(random, routes, models),
            tasks=[_one_of(random, pb.AnnotateTask, bare=True) for _ in range(random.randint(1, 4))],
        )
    if rpc == "Compare":
        asked = _one_of(random, pb.CompareRequest)
        asked.models.extend(random.sample(models, random.randint(0, 3)))
        return asked
    if rpc == "Quote":
        return _one_of(random, pb.QuoteRequest)
    request = getattr(pb, f"{rpc}Request")(image=_image(random), options=_options(random, routes, models))
    _fill(random, rpc.removeprefix("Stream"), request)
    return request


def _one_of(random: Random, kind: Callable[[], Any], *, bare: bool = False) -> Any:
    asked, task = kind(), random.choice(TASKS)
    inner = getattr(asked, task.lower())
    inner.SetInParent()
    if not bare:
        inner.image.CopyFrom(_image(random))
    _fill(random, task, inner)
    return asked


def _fill(random: Random, task: str, request: Any) -> None:
    if task == "VQA":
        request.question = "" if random.random() < 0.02 else random.choice(_QUESTIONS)
    elif task == "Prompt":
        request.prompt = random.choice(_QUESTIONS)
    elif task in {"Detect", "Classify"}:
        request.labels.extend(random.choice(_LABELS))
    elif task == "OCR":
        request.with_regions = random.random() < 0.3


def _image(random: Random) -> image_pb2.Image:
    return image_pb2.Image(data=random.choice(_BAD_IMAGES if random.random() < 0.05 else _IMAGES))


def _options(random: Random, routes: Sequence[str], models: Sequence[str]) -> call_pb2.CallOptions:
    options = call_pb2.CallOptions(
        # Few pictures and few questions: without it, nearly all answers would come from the cache.
        cache=random.choice(
            (call_pb2.CACHE_POLICY_DEFAULT, call_pb2.CACHE_POLICY_BYPASS, call_pb2.CACHE_POLICY_REFRESH)
        ),
        image_detail=random.choice((0, 1, 2, 4)),
        service_tier=random.choice((0, 0, 1, 2, 3)),
        urgency=random.choice((0, 1, 2)),
        priority=random.choice((0, 0, 0, 1, 2, 3)),
        local_only=random.random() < 0.05,
    )
    where = random.random()
    if where < 0.02:
        options.model = "no-such-model"
    elif where < 0.2:
        options.model = random.choice(models)
    elif where < 0.8:
        options.route = random.choice(routes)
    if random.random() < 0.1:
        options.max_cost_nano_usd = random.choice((1, 1_000_000, 100_000_000))
    if random.random() < 0.05:
        options.temperature = 3.0
    return options
