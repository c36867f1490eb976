"""Lists what there is to ask."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gateway.domain import Options
from visiongateway.v1 import model_pb2, vision_service_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gateway.domain import Availability, Listing, RouteListing
    from gateway.pipeline import Call
    from gateway.server.methods import Emit
    from visiongateway.v1.call_pb2 import CallInfo


class ListModelsMethod:
    """Tells of each model and route that the principal may use what the settings, and the last look at it, say."""

    rpc = "ListModels"
    request = pb.ListModelsRequest

    def __init__(
        self,
        models: Sequence[Listing],
        routes: Sequence[RouteListing],
        availability: Callable[[str], Availability],
        expected_s: Callable[[str, str], float | None],
    ) -> None:
        """*availability* tells by name whether a model can be asked, *expected_s* how long an RPC takes it."""
        self._models = models
        self._routes = routes
        self._availability = availability
        self._expected_s = expected_s

    def check(self, request: Any) -> Options:
        return Options()

    async def answer(self, request: Any, call: Call, emit: Emit) -> CallInfo | None:
        answer = pb.ListModelsResponse(
            models=[self._model(each) for each in self._models if call.rights.may_ask(each.name)],
            routes=[
                model_pb2.Route(name=each.name, models=models, choose=each.choose, escalates=each.escalates)
                for each in self._routes
                if call.rights.may_follow(each.name) and (models := [*filter(call.rights.may_ask, each.models)])
            ],
        )
        await emit(answer)
        return None

    def _model(self, model: Listing) -> model_pb2.Model:
        seconds = {rpc: self._expected_s(rpc, model.name) for rpc in model.tasks}
        return model_pb2.Model(
            name=model.name,
            backend=model.kind,
            provider_model=model.provider_model,
            family=model.family,
            state=model_pb2.ModelState.Value(f"MODEL_STATE_{self._availability(model.name).name}"),
            tasks=model.tasks,
            local=model.local,
            capabilities=model_pb2.ModelCapabilities(
                max_images=model.max_images,
                context_token_count=model.context_tokens,
                streaming=model.streams,
                structured_output=model.structured_output,
                open_vocabulary=model.open_vocabulary,
            ),
            price=model_pb2.ModelPrice(
                input_nano_usd_per_token=model.input_nano_usd,
                cached_input_nano_usd_per_token=model.cached_input_nano_usd,
                output_nano_usd_per_token=model.output_nano_usd,
                version=model.price_version,
                free=model.free,
            ),
            max_inflight=model.max_inflight,
            quality=model.quality,
            median_latency_seconds={rpc: takes for rpc, takes in seconds.items() if takes is not None},
        )
