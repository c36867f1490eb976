from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.domain import Priority
from gateway.errors import BackendUnavailable, UnknownModel, UnsupportedByModel
from gateway.policies.route import Rule
from gateway.rights import Rights


@pytest.fixture
def models(candidate):
    return {
        "cheap": candidate("cheap", cost=1, quality=0.5),
        "good": candidate("good", cost=50, quality=0.9, local=False),
        "other": candidate("other", cost=9),
    }


@pytest.fixture
def route(models, make_route):
    def make(**routes):
        routes.setdefault("default", ("cheap", "good"))
        return make_route(models.values(), **{name: Rule(listed) for name, listed in routes.items()})

    return make


@pytest.mark.parametrize(
    ("options", "first", "reason"),
    [
        ({}, "cheap", "route:default"),
        ({"model": "other"}, "other", "pinned"),
        ({"route": "best"}, "good", "route:best"),
        ({"priority": Priority.QUALITY}, "good", "route:default,priority:quality"),
        ({"route": "best", "priority": Priority.COST}, "cheap", "route:best,priority:cost"),
        ({"route": "best", "local_only": True}, "cheap", "route:best"),
    ],
)
async def test_the_caller_s_wish_decides_who_is_asked_first(route, ask, options, first, reason):
    asked = ask(**options)

    answer = await route(best=("good", "cheap")).answer(asked)

    assert (answer.model, asked.trace.route_reason) == (first, reason)


async def test_a_route_named_after_the_rpc_serves_that_rpc(route, ask):
    assert (await route(caption=("other",)).answer(ask())).model == "other"


async def test_a_pinned_model_is_not_fallen_back_from_unless_allowed(route, models, ask):
    models["other"].model.steps = [BackendUnavailable("down"), BackendUnavailable("down")]

    with pytest.raises(BackendUnavailable):
        await route().answer(ask(model="other"))
    assert (await route().answer(ask(model="other", allow_fallback=True))).model == "cheap"


async def test_a_route_is_not_fallen_back_on_when_the_caller_forbids_it(route, models, ask):
    models["cheap"].model.steps = [BackendUnavailable("down")]

    with pytest.raises(BackendUnavailable):
        await route().answer(ask(allow_fallback=False))

    assert models["good"].model.asked == []


async def test_local_only_never_reaches_a_third_party(route, models, ask):
    with pytest.raises(UnsupportedByModel, match="local_only"):
        await route().answer(ask(model="good", local_only=True))

    assert models["good"].model.asked == []


@pytest.mark.parametrize(
    ("rights", "its_models", "its_routes"),
    [
        (Rights(), "cheap, good, other", "best, default"),
        (Rights(models=frozenset({"other", "good"}), routes=("best",)), "good, other", "best"),
        (Rights(models=frozenset({"gone"})), "none", "best, default"),
    ],
)
@pytest.mark.parametrize("kind", ["model", "route"])
async def test_an_unknown_name_is_told_with_the_names_that_its_principal_may_use(
    route, ask, kind, rights, its_models, its_routes
):
    with pytest.raises(UnknownModel) as caught:
        await route(best=("good",)).answer(replace(ask(**{kind: "nope"}), rights=rights))

    assert str(caught.value) == f"no {kind} is named 'nope'; there are: {its_models if kind == 'model' else its_routes}"
    assert caught.value.metadata == {"kind": kind, "name": "nope"}


async def test_of_many_names_as_many_are_told_as_a_message_has_room_for(candidate, make_route, ask):
    route = make_route([candidate(f"model-{number:03}") for number in range(100)])

    with pytest.raises(UnknownModel) as caught:
        await route.answer(ask(model="x" * 1000))

    said = str(caught.value)
    assert said.startswith(f"no model is named '{'x' * 100}'; there are: model-000, model-001, ")
    assert said.endswith(", model-025, and others")
    assert len(said) < 512


def _cannot(_):
    raise UnsupportedByModel("one image at most")


async def test_the_cheapest_first_passes_over_a_model_that_cannot_price_the_call(route, models, ask):
    models["good"] = replace(models["good"], quote=_cannot)

    answer = await route(default=("good", "other", "cheap")).answer(ask(priority=Priority.COST))

    assert answer.model == "cheap"


async def test_without_fallback_local_only_asks_the_first_local_model(route, ask):
    answer = await route(default=("good", "cheap")).answer(ask(local_only=True, allow_fallback=False))

    assert answer.model == "cheap"


async def test_a_pinned_model_is_not_asked_again_by_its_route(route, models, ask):
    models["good"].model.steps = [BackendUnavailable("down")]
    await route(default=("cheap", "good")).answer(ask(model="good", allow_fallback=True))
    models["good"].model.steps = [BackendUnavailable("down")]
    models["cheap"].model.steps = [BackendUnavailable("down")]

    with pytest.raises(BackendUnavailable):
        await route(default=("cheap", "good")).answer(ask(model="good", allow_fallback=True))

    assert len(models["good"].model.asked) == 2


async def test_the_best_first_puts_models_of_unknown_quality_last(route, ask):
    answer = await route(default=("other", "good")).answer(ask(priority=Priority.QUALITY))

    assert answer.model == "good"


@pytest.mark.parametrize(
    ("options", "route_name", "chosen"),
    [
        ({}, "default", ["cheap", "good"]),
        ({"route": "best"}, "best", ["good", "cheap"]),
        ({"route": "best", "allow_fallback": False}, "best", ["good"]),
        ({"model": "other"}, "", ["other"]),
        ({"model": "other", "allow_fallback": True}, "default", ["other", "cheap", "good"]),
    ],
)
async def test_whoever_asks_the_models_is_told_which_route_is_followed(
    models, make_route, ask, options, route_name, chosen
):
    followed = []
    rules = {"default": Rule(("cheap", "good")), "best": Rule(("good", "cheap"))}

    await make_route(models.values(), followed, **rules).answer(ask(**options))

    assert followed == [(route_name, chosen)]
