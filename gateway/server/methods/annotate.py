"""Does several tasks about one image."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from gateway import info
from gateway.domain import Trace
from gateway.errors import GatewayError, InvalidField, Violation
from gateway.server import status, validate
from gateway.server.methods.asked import answered, asked
from gateway.usage import Usage
from visiongateway.v1 import vision_service_pb2 as pb
from visiongateway.v1.call_pb2 import CallOptions

if TYPE_CHECKING:
    from collections.abc import Mapping

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
        if not 1 <= len(request.tasks) <= _MOST_TASKS:
            wrong.append(Violation("tasks", f"has {len(request.tasks)} tasks; 1 to {_MOST_TASKS} are allowed"))
        for index, each in enumerate(request.tasks[:_MOST_TASKS]):
            wrong += self._violations(each, f"tasks[{index}].")
        validate.check_images([("image", request.image)], wrong)
        return validate.options(request.options)

    async def answer(self, request: Any, call: Call, emit: Emit) -> CallInfo | None:
        """Emits one result for each task; raises only for what all of them share, such as the image."""
        image = await self._pipeline.image(self.rpc, "image", request.image, call)
        asks = [
            await self._ask(each, f"tasks[{index}].", request.options, image, call)
            for index, each in enumerate(request.tasks)
        ]
        del request
        async with asyncio.TaskGroup() as group:
            running = [group.create_task(self._result(name, ask, call)) for name, ask in asks]
        attempts = [attempt for _, ask in asks for attempt in ask.trace.attempts]
        answer = pb.AnnotateResponse(
            results=[each.result() for each in running],
            usage=info.usage(sum((attempt.usage for attempt in attempts), Usage())),
            cost_nano_usd=sum(attempt.cost_nano_usd for attempt in attempts),
        )
        await emit(answer)
        return None

    def _violations(self, each: Any, at: str) -> list[Violation]:
        try:
            task, name, inner = asked(each, self._tasks, at)
            validate.check(task, inner, at=f"{at}{name}.", own_image=False)
        except InvalidField as exc:
            return [*exc.violations]
        if inner.HasField("image"):
            return [Violation(f"{at}{name}.image", "must be unset: all tasks are about the one image")]
        return []

    async def _ask(self, each: Any, at: str, shared: CallOptions, image: SourceImage, call: Call) -> tuple[str, Ask]:
        task, name, inner = asked(each, self._tasks, at)
        options = CallOptions()
        options.CopyFrom(shared)
        options.MergeFrom(inner.options)
        own = replace(call, options=validate.options(options), trace=Trace())
        return name, await self._pipeline.ask(task, inner, own, first=image)

    async def _result(self, name: str, ask: Ask, call: Call) -> pb.AnnotateResult:
        try:
            response = await self._pipeline.answer(ask, call.received_at)
        except GatewayError as exc:
            return pb.AnnotateResult(status=status.of(exc))
        finally:
            # The call's own record has what all of them cost.
            call.trace.attempts += ask.trace.attempts
        return pb.AnnotateResult(answer=answered(name, response))
