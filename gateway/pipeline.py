"""The one path that every call takes, from a checked request to its response."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from gateway import info
from gateway.domain import Ask, Options, Trace
from gateway.errors import InvalidImage, UnknownDigest
from gateway.imaging import inspect
from gateway.rights import Rights

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gateway.domain import Clock, Sink, SourceImage
    from gateway.imaging import HeldImages, Limits
    from gateway.metrics import Metrics
    from gateway.policies import Model
    from gateway.tasks import AnyTask
    from visiongateway.v1.call_pb2 import CallInfo
    from visiongateway.v1.image_pb2 import Image


@dataclass(frozen=True, slots=True)
class Call:
    """What the transport knows about one call; times are on the injected clock, *trace* fills along the way."""

    principal: str
    deadline: float
    request_id: str
    received_at: float
    options: Options = field(default_factory=Options)
    rights: Rights = field(default_factory=Rights)
    trace: Trace = field(default_factory=Trace)


class Pipeline:
    """Checks the images, asks the policies, and says who answered and what it cost."""

    def __init__(
        self, model: Model, *, limits: Limits, metrics: Metrics, clock: Clock, held: HeldImages | None = None
    ) -> None:
        """*model* is the outermost policy; *limits* are those on images; *held* has those that were sent lately."""
        self._model = model
        self._limits = limits
        self._held = held
        self._metrics = metrics
        self._clock = clock

    async def run(self, task: AnyTask, request: Any, call: Call, sink: Sink | None = None) -> Any:
        """Answers *request*, whose fields are checked, with `info` filled; raises `GatewayError`.

        *sink* takes the text as it is written, where the model and the task have it so.
        """
        ask = replace(await self.ask(task, request, call), sink=sink)
        # Its images would be in memory twice for as long as the model thinks.
        del request
        return await self.answer(ask, call.received_at)

    async def answer(self, ask: Ask, received_at: float) -> Any:
        """Answers *ask*, which came at *received_at*, with `info` filled; raises `GatewayError`."""
        # Found by its header on the way in, by its pixels on the way to a model, or by the model's own decoder.
        with self._rejections():
            answer = await self._model.answer(ask)
        response: Any = answer.response
        info.answered(response.info, ask, answer, self._clock() - received_at)
        return response

    def record(self, ask: Ask, received_at: float) -> CallInfo:
        """Tells what *ask*, which came at *received_at* and ends now without an answer of its own, used and cost."""
        return info.unanswered(ask, self._clock() - received_at)

    async def ask(
        self,
        task: AnyTask,
        request: Any,
        call: Call,
        *,
        at: str = "",
        first: SourceImage | None = None,
        header_only: bool = False,
    ) -> Ask:
        """Says what *request* asks, its images checked; raises `InvalidImage`, `UnknownDigest` and `Forbidden`.

        *at* goes before the path of each image. *first*, where given, is in place of its `image`. With *header_only* it
        can be priced but not answered.
        """
        rights, options = call.rights, call.options
        rights.check_task(task.rpc)
        given = [(f"{at}{path}", image) for path, image in task.images(request)]
        images = [] if first is None else [first]
        with self._rejections():
            for path, image in given[len(images) :]:
                images.append(await self.image(task.rpc, path, image, call, header_only=header_only))
        return Ask(
            query=task.query(request),
            images=tuple(images),
            options=replace(options, local_only=True) if rights.local_only else options,
            deadline=call.deadline,
            request_id=call.request_id,
            trace=call.trace,
            principal=call.principal,
            rights=rights,
        )

    async def image(self, rpc: str, path: str, image: Image, call: Call, *, header_only: bool = False) -> SourceImage:
        """Checks the image at *path* of a request of *rpc*; raises `InvalidImage`, `UnknownDigest` and `Forbidden`."""
        held = self._held
        if image.HasField("digest"):
            data = await held.find(call.principal, image.digest) if held else None
            self._metrics.image_named(found=data is not None)
            if data is None:
                raise UnknownDigest(
                    "no image that you sent lately has this digest here; send its bytes", metadata={"field": path}
                )
            call.rights.check_image(len(data), path)
            return inspect(data, self._limits, field=path, header_only=header_only)
        # Read whole once: each reading of a field of bytes makes a copy.
        data = image.data
        call.rights.check_image(len(data), path)
        source = inspect(data, self._limits, field=path, header_only=header_only)
        self._metrics.image_received(rpc, len(source.data))
        if held:
            held.hold(call.principal, source.data)
        return source

    @contextmanager
    def _rejections(self) -> Iterator[None]:
        try:
            yield
        except InvalidImage as exc:
            self._metrics.image_rejected(exc.limit)
            raise
