"""Asks several models the same at once."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from itertools import combinations
from typing import TYPE_CHECKING, Any

from gateway.domain import Trace
from gateway.errors import GatewayError, InvalidField, UnsupportedByModel, Violation
from gateway.server import status, validate
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

    def __init__(self, tasks: Mapping[str, AnyTask], pipeline: Pipeline, able: Callable[[Ask], Sequence[str]]) -> None:
        """*able* names the models that can answer an ask."""
        self._tasks = tasks
        self._pipeline = pipeline
        self._able = able

    def check(self, request: Any) -> Options:
        task, name, inner = asked(request, self._tasks)
        if wrong := [*_violations(request, name, inner)]:
            raise InvalidField(wrong)
        return validate.check(task, inner, at=f"{name}.")

    async def answer(self, request: Any, call: Call, emit: Emit) -> CallInfo | None:
        """Emits a message for each model, and the last one with the agreement; raises where no model can be asked."""
        task, name, inner = asked(request, self._tasks)
        ask = await self._pipeline.ask(task, inner, call)
        models = list(request.models) or self._able(ask)
        del request, inner
        if not models:
            raise UnsupportedByModel("no model can answer this call")
        answers: dict[str, Any] = {}
        async with asyncio.TaskGroup() as group:
            running = [group.create_task(self._ask(model, ask, call, name)) for model in models]
            for each in asyncio.as_completed(running):
                message = await each
                if message.HasField("answer"):
                    answers[message.model] = getattr(message.answer, name)
                await emit(message)
        in_order = [model for model in models if model in answers]
        pairs = [
            pb.PairAgreement(
                first_model=first, second_model=second, score=task.agreement(answers[first], answers[second], ask.query)
            )
            for first, second in combinations(in_order, 2)
        ]
        await emit(pb.CompareResponse(agreement=pb.Agreement(pairs=pairs)))
        return None

    async def _ask(self, model: str, ask: Ask, call: Call, name: str) -> pb.CompareResponse:
        own = replace(ask, options=replace(ask.options, model=model, allow_fallback=False), trace=Trace())
        try:
            response = await self._pipeline.answer(own, call.received_at)
        except GatewayError as exc:
            told = self._pipeline.failed(own, call.received_at)
            return pb.CompareResponse(model=model, status=status.of(exc), info=told)
        finally:
            # The call's own record has what all of them cost.
            call.trace.attempts += own.trace.attempts
        return pb.CompareResponse(model=model, answer=answered(name, response), info=response.info)


def _violations(request: Any, name: str, inner: Any) -> Iterator[Violation]:
    for option in ("model", "route"):
        if getattr(inner.options, option):
            yield Violation(f"{name}.options.{option}", "must be unset: `models` says which are asked")
    if inner.options.HasField("allow_fallback"):
        yield Violation(f"{name}.options.allow_fallback", "must be unset: each model answers for itself")
    if len(request.models) > _MOST_MODELS:
        yield Violation("models", f"has {len(request.models)} names; at most {_MOST_MODELS} are allowed")
    elif len(set(request.models)) < len(request.models):
        yield Violation("models", "has the same name twice")
