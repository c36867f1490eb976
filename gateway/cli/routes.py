"""Says in words how routes choose among their models."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gateway.settings import RouteSettings


def line(name: str, route: RouteSettings) -> str:
    """Says in a line whom the route called *name* asks, in which order, and what else it does."""
    return "; ".join([f"{name}: {_chosen(route)}", *_besides(route)])


def _chosen(route: RouteSettings) -> str:
    models = ", ".join(route.models)
    if len(route.models) == 1:
        return models
    match route.choose:
        case "order":
            return f"{models}, in this order"
        case "weights":
            total = sum(route.weights.values())
            shares = ", ".join(f"{model} for {_share(weight / total)}" for model, weight in route.weights.items())
            return f"{shares}; then {models}, in this order"
        case "cheapest":
            return f"the cheapest for the call of {models}"
        case "fastest":
            return f"the fastest of {models}"
        case "quality":
            near = f", or a cheaper one within {route.tolerance:g} of it" if route.tolerance else ""
            return f"the best for the call's category of {models}{near}"


def _besides(route: RouteSettings) -> Iterator[str]:
    if route.escalate:
        yield "doubtful answers are passed over for the next model's"
    if route.agreement:
        yield f"{_share(route.agreement.share)} compared with the next model"
    if route.hedge:
        yield "the next model is asked too when the first one takes long"
    if route.shadow:
        yield f"{_share(route.shadow.share)} shown to {route.shadow.model} too"


def _share(share: float) -> str:
    return f"{share * 100:.3g} % of calls"
