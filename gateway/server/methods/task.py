"""The RPCs that are tasks, whole or word by word."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gateway.server import validate

if TYPE_CHECKING:
    from gateway.domain import Options
    from gateway.pipeline import Call, Pipeline
    from gateway.server.methods import Emit
    from gateway.tasks import AnyTask


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

    async def answer(self, request: Any, call: Call) -> Any:
        running = self._pipeline.run(self._task, request, call)
        # Else the images stay in memory here too for as long as the model thinks.
        del request
        return await running


class StreamedTaskMethod:
    """An RPC that is a task whose text comes as it is written."""

    def __init__(self, task: AnyTask, request: type[Any], response: type[Any], pipeline: Pipeline) -> None:
        """*request* has the fields of the task's own, *response* a `delta` or the task's `answer`."""
        self.rpc = f"Stream{task.rpc}"
        self.request = request
        self._response = response
        self._task = task
        self._pipeline = pipeline

    def check(self, request: Any) -> Options:
        return validate.check(self._task, request)

    async def stream(self, request: Any, call: Call, emit: Emit) -> Any:
        """Emits the text as it comes, all of it at once where it does not, and the whole answer at the end."""
        sink = _Deltas(self._response, emit)
        running = self._pipeline.run(self._task, request, call, sink)
        # Else the images stay in memory here too for as long as the model thinks.
        del request
        answer = await running
        if not sink.committed and (text := self._task.text(answer)):
            await sink.write(text)
        await emit(self._response(answer=answer))
        return answer.info


@dataclass(slots=True)
class _Deltas:
    """Hands text to the caller, each piece a message."""

    response: type[Any]
    emit: Emit
    committed: bool = False

    async def write(self, text: str) -> None:
        self.committed = True
        await self.emit(self.response(delta=text))
