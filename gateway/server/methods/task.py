"""The RPCs that are tasks, whole or word by word."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from gateway.server import validate
from gateway.server.deltas import deltas

if TYPE_CHECKING:
    from gateway.domain import Clock, Options
    from gateway.pipeline import Call, Pipeline
    from gateway.server.methods import Emit
    from gateway.tasks import AnyTask
    from visiongateway.v1.call_pb2 import CallInfo


class TaskMethod:
    """An RPC that is a task."""

    def __init__(self, task: AnyTask, pipeline: Pipeline) -> None:
        """Takes the requests of *task* through *pipeline*."""
        self.rpc: str = task.rpc
        self.request: type[Any] = task.request
        self._task = task
        self._pipeline = pipeline

    def check(self, request: Any) -> Options:
        return validate.check(self._task, request)

    async def answer(self, request: Any, call: Call, emit: Emit) -> CallInfo | None:
        running = self._pipeline.run(self._task, request, call)
        # Else the images stay in memory here too for as long as the model thinks.
        del request
        response = await running
        await emit(response)
        return response.info  # type: ignore[no-any-return]  # Every response of a task has one.


class StreamedTaskMethod:
    """An RPC that is a task whose text comes as it is written."""

    def __init__(
        self, task: AnyTask, request: type[Any], response: type[Any], pipeline: Pipeline, clock: Clock = time.monotonic
    ) -> None:
        """*request* has the fields of the task's own, *response* a `delta` or the task's `answer`."""
        self.rpc = f"Stream{task.rpc}"
        self.request = request
        self._response = response
        self._task = task
        self._pipeline = pipeline
        self._clock = clock

    def check(self, request: Any) -> Options:
        return validate.check(self._task, request)

    async def answer(self, request: Any, call: Call, emit: Emit) -> CallInfo | None:
        """Emits the text as it comes, all of it at once where it does not, and the whole answer at the end."""
        async with deltas(self._response, emit, call.trace, self._clock) as sink:
            running = self._pipeline.run(self._task, request, call, sink)
            # Else the images stay in memory here too for as long as the model thinks.
            del request
            response = await running
            if not sink.committed and (text := self._task.text(response)):
                await sink.write(text)
        await emit(self._response(answer=response))
        return response.info  # type: ignore[no-any-return]  # Every response of a task has one.
