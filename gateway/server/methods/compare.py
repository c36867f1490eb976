"""Asks several models the same at once."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from itertools import combinations
from typing import TYPE_CHECKING, Any

from gateway.domain import Trace
from gateway.errors import GatewayError, InvalidField, Violation
from gateway.server import status, validate
from gateway.server.methods import parts
from gateway.server.methods.asked import answered, asked
from visiongateway.v1 import vision_service_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from gateway.domain import Ask, Options
    from gateway.pipeline import Call, Pipeline
    from gateway.server.methods import Emit
    from gateway.tasks import AnyTask
    from visiongateway.v1.call_pb2 import CallInfo

_MOST_MODELS = 16


class CompareMethod:
    """Gives each model's answer as it comes, and at the end how far they agree."""

    rpc = "Compare"
    request = pb.CompareRequest

    def __init__(
        self, tasks: Mapping[str, AnyTask], pipeline: Pipeline, able: Callable[[Ask, Sequence[str]], Sequence[str]]
    ) -> None:
        """*able* names the models that are to answer an ask, of those that are named, or else of all."""
        self._tasks = tasks
        self._pipeline = pipeline
        self._able = able

    def check(self, request: Any) -> Options:
        task, name, inner = asked(request, self._tasks)
        if wrong := [*_violations(request, name, inner)]:
            raise InvalidField(wrong)
        return validate.check(task, inner, at=f"{name}.")

    async def answer(self, request: Any, call: Call, emit: Emit) -> CallInfo | None:
        """Emits a message for each model, and the last one with the agreement.

        Raises for what all models share: the image, a name that no model has, and that nobody can do the task.
        """
        task, name, inner = asked(request, self._tasks)
        ask = await self._pipeline.ask(task, inner, call, at=f"{name}.")
        models = self._able(ask, list(request.models))
        del request, inner
        ends = parts.deadline(call)
        asks = {
            model: replace(
                ask,
                options=replace(ask.options, model=model, allow_fallback=False),
                deadline=ends,
                trace=Trace(),
                quotes={},
            )
            for model in models
        }
        answers: dict[str, Any] = {}
        try:
            async with asyncio.TaskGroup() as group:
                running = [group.create_task(self._row(model, each, call, name)) for model, each in asks.items()]
                for ended in asyncio.as_completed(running):
                    row = await ended
                    if row.HasField("answer"):
                        answers[row.model] = getattr(row.answer, name)
                    await emit(row)
        finally:
            parts.note(call, (each.trace for each in asks.values()))
        pairs = [
            # Two lists of hundreds of boxes take tens of milliseconds, which others need not wait for.
            await asyncio.to_thread(_pair, task, ask, first, second, answers)
            for first, second in combinations([model for model in models if model in answers], 2)
        ]
        together = self._pipeline.record(ask, call.received_at)
        await emit(pb.CompareResponse(agreement=pb.Agreement(pairs=pairs), info=together))
        # For the trailers and the log.
        together.model = ",".join(answers)
        return together

    async def _row(self, model: str, ask: Ask, call: Call, name: str) -> pb.CompareResponse:
        ended = await parts.outcome(self._pipeline, ask, call, self.rpc)
        if isinstance(ended, GatewayError):
            info = self._pipeline.record(ask, call.received_at)
            return pb.CompareResponse(model=model, status=status.of(ended), info=info)
        return pb.CompareResponse(model=model, answer=answered(name, ended), info=ended.info)


def _pair(task: AnyTask, ask: Ask, first: str, second: str, answers: Mapping[str, Any]) -> pb.PairAgreement:
    both = answers[first], answers[second]
    return pb.PairAgreement(
        first_model=first,
        second_model=second,
        score=task.agreement(*both, ask.query),
        matches=[
            pb.BoxMatch(first_index=match.first, second_index=match.second, iou=match.iou)
            for match in task.matches(*both, ask.query)
        ],
    )


def _violations(request: Any, name: str, inner: Any) -> Iterator[Violation]:
    for option in ("model", "route"):
        if getattr(inner.options, option):
            yield Violation(f"{name}.options.{option}", "must be unset: `models` says which are asked")
    if inner.options.HasField("allow_fallback"):
        yield Violation(f"{name}.options.allow_fallback", "must be unset: each model answers for itself")
    if len(request.models) > _MOST_MODELS:
        yield Violation("models", f"has {len(request.models)} names; at most {_MOST_MODELS} are allowed")
    elif twice := [name for name, count in Counter(request.models).items() if count > 1]:
        yield Violation("models", f"has the same name twice: {', '.join(map(repr, twice))}")
