"""Does several tasks about one image."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from gateway import info
from gateway.domain import Trace
from gateway.errors import Forbidden, GatewayError, InvalidField, Violation
from gateway.server import status, validate
from gateway.server.methods import combine, parts
from gateway.server.methods.asked import answered, asked
from visiongateway.v1 import vision_service_pb2 as pb
from visiongateway.v1.call_pb2 import CallOptions

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from gateway.domain import Ask, Options, SourceImage
    from gateway.pipeline import Call, Pipeline
    from gateway.rights import Rights
    from gateway.server.methods import Emit
    from gateway.tasks import AnyTask
    from visiongateway.v1.call_pb2 import CallInfo

_MOST_TASKS = 16


class AnnotateMethod:
    """Does all tasks at once; each has its own answer or failure."""

    rpc = "Annotate"
    request = pb.AnnotateRequest

    def __init__(self, tasks: Mapping[str, AnyTask], pipeline: Pipeline, *, combines: bool) -> None:
        """Knows the requests of *tasks*; with *combines*, several of them are put to a model at once."""
        self._tasks = tasks
        self._combines = combines
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
        """Emits one result for each task; raises only for what all of them share, such as the image.

        Also where the caller may ask for none of them.
        """
        refused = self._refused(request.tasks, call.rights)
        image = await self._pipeline.image(self.rpc, "image", request.image, call)
        ends = parts.deadline(call)
        asks = [
            await self._ask(each, at, request.options, image, replace(call, deadline=ends, trace=Trace()))
            for index, (at, each) in enumerate(_numbered(request.tasks))
            if index not in refused
        ]
        del request
        traces = [ask.trace for _, ask in asks]
        try:
            results = await self._results(asks, call, traces)
        finally:
            parts.note(call, traces)
        together = self._pipeline.record(replace(asks[0][1], trace=call.trace), call.received_at)
        answered_or_not = iter(results)
        every = [refused.get(index) or next(answered_or_not) for index in range(len(results) + len(refused))]
        answer = pb.AnnotateResponse(results=every, usage=together.usage, cost_nano_usd=together.cost_nano_usd)
        await emit(answer)
        # For the trailers and the log.
        models = (
            getattr(result.answer, name).info.model
            for (name, _), result in zip(asks, results, strict=True)
            if result.HasField("answer")
        )
        together.model = ",".join(dict.fromkeys(models))
        return together

    def _refused(self, tasks: Sequence[Any], rights: Rights) -> dict[int, pb.AnnotateResult]:
        """Gives the results, by place, of the tasks that the caller may not ask for; raises where these are all."""
        refused: dict[int, pb.AnnotateResult] = {}
        for index, (at, each) in enumerate(_numbered(tasks)):
            task, name, _ = asked(each, self._tasks, at)
            try:
                rights.check_task(task.rpc)
            except Forbidden as exc:
                if len(refused) == len(tasks) - 1:
                    raise
                refused[index] = _result(name, exc)
        return refused

    async def _ask(self, each: Any, at: str, shared: CallOptions, image: SourceImage, call: Call) -> tuple[str, Ask]:
        task, name, inner = asked(each, self._tasks, at)
        own = replace(call, options=validate.options(_merged(shared, inner.options)))
        return name, await self._pipeline.ask(task, inner, own, at=f"{at}{name}.", first=image)

    async def _results(
        self, asks: Sequence[tuple[str, Ask]], call: Call, traces: list[Trace]
    ) -> list[pb.AnnotateResult]:
        """Gives the results in order; what is asked for several tasks at once has its own among *traces*."""
        alone = [[index] for index in range(len(asks))]
        groups = combine.groups([ask for _, ask in asks], self._tasks) if self._combines else alone
        async with asyncio.TaskGroup() as group:
            running = [
                group.create_task(self._group([asks[each] for each in places], call, traces)) for places in groups
            ]
        found: dict[int, pb.AnnotateResult] = {}
        for places, each in zip(groups, running, strict=True):
            found.update(zip(places, each.result(), strict=True))
        return [found[index] for index in range(len(asks))]

    async def _group(self, asks: Sequence[tuple[str, Ask]], call: Call, traces: list[Trace]) -> list[pb.AnnotateResult]:
        if len(asks) == 1:
            name, ask = asks[0]
            return [_result(name, await parts.outcome(self._pipeline, ask, call, self.rpc))]
        several = combine.together([ask for _, ask in asks], call.received_at)
        traces.append(several.trace)
        ended = await parts.outcome(self._pipeline, several, call, self.rpc)
        if isinstance(ended, GatewayError):
            whole, responses = self._pipeline.record(several, call.received_at), [None] * len(asks)
        else:
            whole, responses = ended.info, ended.responses
        async with asyncio.TaskGroup() as group:
            running = [
                group.create_task(self._of_group(name, ask, response, share, several.trace, call))
                for (name, ask), response, share in zip(asks, responses, info.shares(whole, len(asks)), strict=True)
            ]
        return [each.result() for each in running]

    async def _of_group(
        self, name: str, ask: Ask, response: Any, share: CallInfo, earlier: Trace, call: Call
    ) -> pb.AnnotateResult:
        """Gives what the model answered to one of several tasks, or asks that one by itself."""
        if response is not None:
            response.info.CopyFrom(share)
            return _result(name, response)
        combine.precede(ask.trace, earlier)
        ended = await parts.outcome(self._pipeline, ask, call, self.rpc)
        if not isinstance(ended, GatewayError):
            info.add(ended.info, share)
        return _result(name, ended)


def _result(name: str, ended: Any) -> pb.AnnotateResult:
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
