"""Does several tasks about one image."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from gateway.domain import Trace
from gateway.errors import GatewayError, InvalidField, Violation
from gateway.server import status, validate
from gateway.server.methods import parts
from gateway.server.methods.asked import answered, asked
from visiongateway.v1 import vision_service_pb2 as pb
from visiongateway.v1.call_pb2 import CallOptions

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from gateway.domain import Ask, Options, SourceImage
    from gateway.pipeline import Call, Pipeline
    from gateway.server.methods import Emit
    from gateway.tasks import AnyTask
    from visiongateway.v1.call_pb2 import CallInfo

_MOST_TASKS = 16


class AnnotateMethod:
    """Does all tasks at once; each has its own answer or failure."""

    rpc = "Annotate"
    request = pb.AnnotateRequest

    def __init__(self, tasks: Mapping[str, AnyTask], pipeline: Pipeline) -> None:
        """Knows the requests of *tasks*."""
        self._tasks = tasks
        self._pipeline = pipeline

    def check(self, request: Any) -> Options:
        wrong = [*validate.option_violations(request.options)]
        images = [("image", request.image)]
        if not 1 <= len(request.tasks) <= _MOST_TASKS:
            wrong.append(Violation("tasks", f"has {len(request.tasks)} tasks; 1 to {_MOST_TASKS} are allowed"))
        for at, each in _numbered(request.tasks[:_MOST_TASKS]):
            try:
                task, name, inner = asked(each, self._tasks, at)
            except InvalidField as exc:
                wrong += exc.violations
                continue
            if inner.HasField("image"):
                wrong.append(Violation(f"{at}{name}.image", "must be unset: all tasks are about the one image"))
            for found in (*validate.option_violations(inner.options), *task.violations(inner)):
                wrong.append(Violation(f"{at}{name}.{found.field}", found.description))
            images += [(f"{at}{name}.{path}", image) for path, image in task.images(inner)[1:]]
        validate.check_images(images, wrong)
        return validate.options(request.options)

    async def answer(self, request: Any, call: Call, emit: Emit) -> CallInfo | None:
        """Emits one result for each task; raises only for what all of them share, such as the image."""
        image = await self._pipeline.image(self.rpc, "image", request.image, call)
        ends = parts.deadline(call)
        asks = [
            await self._ask(each, at, request.options, image, replace(call, deadline=ends, trace=Trace()))
            for at, each in _numbered(request.tasks)
        ]
        del request
        try:
            async with asyncio.TaskGroup() as group:
                running = [group.create_task(self._result(name, ask, call)) for name, ask in asks]
        finally:
            parts.note(call, (ask.trace for _, ask in asks))
        results = [each.result() for each in running]
        together = self._pipeline.record(replace(asks[0][1], trace=call.trace), call.received_at)
        answer = pb.AnnotateResponse(results=results, usage=together.usage, cost_nano_usd=together.cost_nano_usd)
        await emit(answer)
        # For the trailers and the log.
        models = (
            getattr(result.answer, name).info.model
            for (name, _), result in zip(asks, results, strict=True)
            if result.HasField("answer")
        )
        together.model = ",".join(dict.fromkeys(models))
        return together

    async def _ask(self, each: Any, at: str, shared: CallOptions, image: SourceImage, call: Call) -> tuple[str, Ask]:
        task, name, inner = asked(each, self._tasks, at)
        own = replace(call, options=validate.options(_merged(shared, inner.options)))
        return name, await self._pipeline.ask(task, inner, own, at=f"{at}{name}.", first=image)

    async def _result(self, name: str, ask: Ask, call: Call) -> pb.AnnotateResult:
        ended = await parts.outcome(self._pipeline, ask, call, self.rpc)
        if isinstance(ended, GatewayError):
            return pb.AnnotateResult(status=status.of(ended))
        return pb.AnnotateResult(answer=answered(name, ended))


def _numbered(tasks: Iterable[Any]) -> Iterator[tuple[str, Any]]:
    return ((f"tasks[{index}].", each) for index, each in enumerate(tasks))


def _merged(shared: CallOptions, own: CallOptions) -> CallOptions:
    """Gives what a task sets itself, and for the rest what all of them share."""
    merged = CallOptions()
    merged.CopyFrom(shared)
    if own.model or own.route:
        # Each is in place of the other.
        merged.ClearField("model")
        merged.ClearField("route")
    merged.MergeFrom(own)
    return merged
