"""What the service does for each RPC of the proto, a file for each kind."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from gateway.server.methods.quote import QuoteMethod
from gateway.server.methods.task import StreamedTaskMethod, TaskMethod
from visiongateway.v1 import vision_service_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gateway.domain import Ask, Offer, Options
    from gateway.pipeline import Call, Pipeline
    from gateway.tasks import AnyTask

# Sends one message of a streamed answer; done once the caller can take another.
Emit: TypeAlias = Callable[[Any], Awaitable[None]]

_RPCS = pb.DESCRIPTOR.services_by_name["VisionService"].methods_by_name


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


class UnaryMethod(Method, Protocol):
    """One RPC that gives one message."""

    async def answer(self, request: Any, call: Call) -> Any:
        """Answers a checked *request*, or raises a `GatewayError`."""
        ...


class StreamedMethod(Method, Protocol):
    """One RPC that gives several messages."""

    async def stream(self, request: Any, call: Call, emit: Emit) -> Any:
        """Answers a checked *request* message by message, or raises a `GatewayError`; gives the call's `CallInfo`."""
        ...


def bind(
    tasks: Mapping[str, AnyTask], pipeline: Pipeline, offers: Callable[[Ask], list[Offer]]
) -> dict[str, UnaryMethod | StreamedMethod]:
    """Gives the method of every RPC by name; *offers* prices an ask at each model that would be asked."""
    methods: list[UnaryMethod | StreamedMethod] = [TaskMethod(task, pipeline) for task in tasks.values()]
    methods += [
        StreamedTaskMethod(
            task, getattr(pb, f"Stream{task.rpc}Request"), getattr(pb, f"Stream{task.rpc}Response"), pipeline
        )
        for task in tasks.values()
        if f"Stream{task.rpc}" in _RPCS
    ]
    methods.append(QuoteMethod(tasks, pipeline, offers))
    return {method.rpc: method for method in methods}
