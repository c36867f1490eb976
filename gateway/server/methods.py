"""What the service does for each RPC of the proto: a task's own, or one about tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from gateway.errors import InvalidField, InvalidImage, Violation
from gateway.server import validate
from visiongateway.v1 import vision_service_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gateway.domain import Ask, Offer, Options
    from gateway.pipeline import Call, Pipeline
    from gateway.tasks import AnyTask

_NANO = 1_000_000_000


class Method(Protocol):
    """One RPC."""

    @property
    def rpc(self) -> str:
        """Its name in the proto."""
        ...

    @property
    def request(self) -> type[Any]:
        """The message it takes."""
        ...

    def check(self, request: Any) -> Options:
        """Gives the options of a *request* in which everything is in range; raises like `validate.check`."""
        ...

    async def answer(self, request: Any, call: Call) -> Any:
        """Answers a checked *request*, or raises a `GatewayError`."""
        ...


def bind(tasks: Mapping[str, AnyTask], pipeline: Pipeline, offers: Callable[[Ask], list[Offer]]) -> dict[str, Method]:
    """Gives the method of every RPC by name; *offers* prices an ask at each model that would be asked."""
    methods: list[Method] = [TaskMethod(task, pipeline) for task in tasks.values()]
    methods.append(QuoteMethod(tasks, pipeline, offers))
    return {method.rpc: method for method in methods}


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


class QuoteMethod:
    """Prices the request of a task; nothing is asked."""

    rpc = "Quote"
    request = pb.QuoteRequest

    def __init__(self, tasks: Mapping[str, AnyTask], pipeline: Pipeline, offers: Callable[[Ask], list[Offer]]) -> None:
        """Knows the requests of *tasks* by the names of their fields, which are the RPCs' in lower case."""
        self._tasks = {rpc.lower(): task for rpc, task in tasks.items()}
        self._pipeline = pipeline
        self._offers = offers

    def check(self, request: Any) -> Options:
        name = request.WhichOneof("task")
        if name is None:
            raise InvalidField([Violation("task", f"must be one of {', '.join(self._tasks)}")])
        return validate.check(self._tasks[name], getattr(request, name), at=f"{name}.")

    async def answer(self, request: Any, call: Call) -> Any:
        name = request.WhichOneof("task")
        try:
            ask = self._pipeline.ask(self._tasks[name], getattr(request, name), call, header_only=True)
        except InvalidImage as exc:
            raise InvalidImage(str(exc), limit=exc.limit, field=f"{name}.{exc.field}") from None
        return pb.QuoteResponse(candidates=[_candidate(offer) for offer in self._offers(ask)])


def _candidate(offer: Offer) -> pb.QuoteCandidate:
    found = pb.QuoteCandidate(model=offer.model, skip_reason=offer.skip_reason)
    if offer.latency_s is not None:
        found.expected_latency.FromNanoseconds(int(offer.latency_s * _NANO))
    if (quote := offer.quote) is not None:
        found.image_token_count = quote.image_tokens
        found.input_token_count = quote.input_tokens
        found.max_output_token_count = quote.max_output_tokens
        found.expected_cost_nano_usd = quote.expected_cost
        found.max_cost_nano_usd = quote.max_cost
        found.price_version = quote.price_version
        found.sent_width_px, found.sent_height_px = quote.sent_px
    return found
