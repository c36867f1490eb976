"""Says of each model and route what callers may know of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.domain import Availability, Listing, RouteListing, ServiceTier
from gateway.pricing import Rates
from gateway.server.methods.models import ListModelsMethod

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gateway.compose.model import Shared
    from gateway.compose.plan import Plan
    from gateway.policies import Candidate
    from gateway.settings import Settings


def listing(
    settings: Settings, plans: Mapping[str, Plan], candidates: Mapping[str, Candidate], shared: Shared
) -> ListModelsMethod:
    """Gives what lists the models of *plans*, whose *candidates* know how they are, and the routes of *settings*."""

    def availability(name: str) -> Availability:
        candidate = candidates[name]
        if not candidate.is_ready():
            return Availability.NOT_READY
        return Availability.PAUSED if candidate.is_open() else Availability.READY

    routes = [
        RouteListing(name, route.models, route.choose, route.escalate) for name, route in settings.all_routes.items()
    ]
    models = [_model(plan, candidates[name], tuple(shared.tasks)) for name, plan in plans.items()]
    return ListModelsMethod(models, routes, availability, shared.latency.expected_s)


def _model(plan: Plan, candidate: Candidate, every_task: tuple[str, ...]) -> Listing:
    profile, price = plan.profile, plan.price
    rates = Rates(0, 0, 0) if price.free else price.tiers[ServiceTier.STANDARD][0]
    return Listing(
        name=plan.name,
        kind=plan.settings.kind,
        provider_model=str(getattr(plan.options, "model", "")),
        family=profile.family,
        tasks=tuple(rpc for rpc in every_task if candidate.tasks is None or rpc in candidate.tasks),
        local=plan.local,
        max_images=profile.max_images,
        context_tokens=profile.context_tokens,
        streams=candidate.streams,
        structured_output=profile.structured_output,
        open_vocabulary=not profile.takes_query,
        input_nano_usd=rates.input,
        cached_input_nano_usd=rates.cached_input,
        output_nano_usd=rates.output,
        price_version=price.version,
        free=price.free,
        max_inflight=plan.settings.max_inflight,
        quality=plan.quality,
    )
