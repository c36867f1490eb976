"""What the service does for each RPC of the proto, a file for each kind."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from gateway.server.methods.annotate import AnnotateMethod
from gateway.server.methods.compare import CompareMethod
from gateway.server.methods.quote import QuoteMethod
from gateway.server.methods.task import StreamedTaskMethod, TaskMethod
from visiongateway.v1 import vision_service_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gateway.domain import Ask, Offer, Options
    from gateway.pipeline import Call, Pipeline
    from gateway.server.methods.models import ListModelsMethod
    from gateway.tasks import AnyTask
    from visiongateway.v1.call_pb2 import CallInfo

# Takes one message of the answer; done once the caller can take another.
Emit: TypeAlias = Callable[[Any], Awaitable[None]]

_RPCS = pb.DESCRIPTOR.services_by_name["VisionService"].methods_by_name


class Routing(Protocol):
    """Who knows whom a call would be made to."""

    def offers(self, ask: Ask) -> list[Offer]:
        """Prices *ask* at each model that would be asked, in that order."""
        ...

    def able(self, ask: Ask, named: Sequence[str] = ()) -> list[str]:
        """Lists the models that are *named*, or every one that can answer *ask*; raises for unknown names."""
        ...

    def serves(self, rpc: str) -> bool:
        """Tells whether there is a route that is named after *rpc*."""
        ...


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

    async def answer(self, request: Any, call: Call, emit: Emit) -> CallInfo | None:
        """Emits the answer to a checked *request*, one message unless the RPC streams, or raises a `GatewayError`.

        Gives the `info` of the whole call, where there is one.
        """
        ...


def bind(
    tasks: Mapping[str, AnyTask], pipeline: Pipeline, pinned: Pipeline, routing: Routing, listing: ListModelsMethod
) -> dict[str, Method]:
    """Gives the method of every RPC by name; *routing* tells whom a call would be made to.

    *pinned* takes calls that name the one model they are for: nothing is chosen, so nothing is saved.
    """
    methods: list[Method] = [TaskMethod(task, pipeline) for task in tasks.values()]
    methods += [
        StreamedTaskMethod(
            task, getattr(pb, f"Stream{task.rpc}Request"), getattr(pb, f"Stream{task.rpc}Response"), pipeline
        )
        for task in tasks.values()
        if f"Stream{task.rpc}" in _RPCS
    ]
    methods += [
        QuoteMethod(tasks, pipeline, routing.offers),
        AnnotateMethod(tasks, pipeline, combines=routing.serves(AnnotateMethod.rpc)),
        CompareMethod(tasks, pinned, routing.able),
        listing,
    ]
    return {method.rpc: method for method in methods}
