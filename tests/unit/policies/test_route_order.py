"""Who of a route is asked first, and who next."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random

import pytest

from gateway.domain import Priority, Query
from gateway.errors import BackendUnavailable
from gateway.policies.route import Rule


@pytest.fixture
def order(make_route, ask):
    """Tells in which order *candidates* are asked, and why."""

    async def tell(candidates, rule, **options):
        followed, asked = [], ask(**options)
        await make_route(candidates, followed, r=rule).answer(replace(asked, options=replace(asked.options, route="r")))
        return followed[0][1], asked.trace.route_reason

    return tell


def rule(candidates, choose, **more):
    return Rule(tuple(each.name for each in candidates), choose, **more)


async def test_a_drawn_model_is_asked_first_and_the_others_as_listed(candidate, order, chance):
    models = [candidate("old"), candidate("spare"), candidate("new")]

    told = await order(models, rule(models, "weights", weights={"old": 95, "new": 5}))

    assert told == (["new", "old", "spare"], "route:r,weights")
    assert chance.drawn == [{"old": 95, "spare": 0, "new": 5}]


async def test_a_model_of_no_weight_is_never_drawn_but_fallen_back_on(candidate, make_route, ask):
    models = [candidate("spare"), candidate("old", BackendUnavailable("down"))]
    asked = ask()

    answer = await make_route(models, default=rule(models, "weights", weights={"spare": 0, "old": 1})).answer(asked)

    assert (answer.model, asked.trace.route_reason) == ("spare", "route:default,weights")


async def test_calls_are_parted_as_the_weights_say(candidate, make_route, ask, chance, monkeypatch):
    models = [candidate("old"), candidate("new")]
    monkeypatch.setattr(chance, "choices", Random(1).choices)  # noqa: S311  it parts calls, and keeps no secret
    route = make_route(models, default=rule(models, "weights", weights={"old": 9, "new": 1}))

    for _ in range(1000):
        await route.answer(ask())

    # Within four standard deviations of a binomial of 1000 and 0.1.
    assert abs(len(models[1].model.asked) - 100) < 38


async def test_when_no_model_with_a_weight_can_do_the_call_the_others_follow_as_listed(candidate, order):
    models = [replace(candidate("new"), tasks=frozenset({"OCR"})), candidate("a"), candidate("b")]

    told, _ = await order(models, rule(models, "weights", weights={"new": 1}))

    assert told == ["a", "b"]


async def test_the_cheapest_is_the_one_that_this_call_is_expected_to_cost_least(candidate, order):
    models = [candidate("dear", cost=9), candidate("b", cost=2), candidate("a", cost=2), candidate("cheap", cost=1)]

    told = await order(models, rule(models, "cheapest"))

    assert told == (["cheap", "b", "a", "dear"], "route:r,cheapest")


async def test_the_fastest_is_the_one_of_the_lowest_95th_percentile(candidate, order, takes, latency):
    models = [candidate("steady"), candidate("mostly quick"), candidate("slow")]
    takes("steady", 2.0)
    takes("slow", 3.0)
    for seconds in (1.0, 1.0, 1.0, 1.0, 2.5):
        latency.observe("Caption", "mostly quick", seconds)

    told = await order(models, rule(models, "fastest"))

    assert told == (["steady", "mostly quick", "slow"], "route:r,fastest")


async def test_models_whose_time_is_not_known_come_after_those_whose_is_as_listed(candidate, order, takes):
    models = [candidate("b"), candidate("a"), candidate("known")]
    takes("known", 9.0)

    told, _ = await order(models, rule(models, "fastest"))

    assert told == ["known", "b", "a"]


@pytest.mark.parametrize(
    ("number", "known", "told"),
    [
        (0.049, ["quick"], (["unknown", "quick", "slow"], "route:r,fastest,explored")),
        (0.051, ["quick"], (["quick", "slow", "unknown"], "route:r,fastest")),
        (0.009, ["quick", "slow", "unknown"], (["unknown", "quick", "slow"], "route:r,fastest,explored")),
        (0.011, ["quick", "slow", "unknown"], (["quick", "slow", "unknown"], "route:r,fastest")),
        (0.0, [], (["quick", "slow", "unknown"], "route:r,fastest")),
    ],
    ids=["of an unknown one", "seldom", "of a slower one", "more seldom", "never while none is known"],
)
async def test_a_few_calls_find_out_how_fast_another_model_is(candidate, order, takes, chance, number, known, told):
    models = [candidate("quick"), candidate("slow"), candidate("unknown")]
    chance.number = number
    for seconds, name in enumerate(known, start=1):
        takes(name, seconds)

    assert await order(models, rule(models, "fastest")) == told


@pytest.mark.parametrize("spared", ["no fallback", "paused"])
async def test_nobody_finds_out_at_the_cost_of_a_call(candidate, order, takes, chance, spared):
    models = [candidate("known"), candidate("unknown", is_open=spared == "paused")]
    takes("known", 1.0)
    chance.number = 0.0

    options = {"allow_fallback": False} if spared == "no fallback" else {}
    told, why = await order(models, rule(models, "fastest"), **options)

    assert (told[0], why) == ("known", "route:r,fastest")


QUALITIES = {
    "gemma": {"overall": 0.69, "object": 0.86, "counting": 0.1},
    "gpt": {"overall": 0.78, "object": 0.93, "counting": 0.3},
    "own": {"overall": 0.5, "forms": 0.99},
    "new": {},
}


@pytest.fixture
def rated(candidate):
    costs = {"gemma": 1, "gpt": 100, "own": 5, "new": 3}
    return [replace(candidate(name, cost=costs[name]), quality=figures) for name, figures in QUALITIES.items()]


@pytest.mark.parametrize(
    ("category", "tolerance", "first", "others"),
    [
        ("", 0.0, "gpt", ["gemma", "own", "new"]),
        ("", 0.1, "gemma", ["gpt", "own", "new"]),
        ("counting", 0.1, "own", ["gpt", "gemma", "new"]),
        ("forms", 0.05, "own", ["gpt", "gemma", "new"]),
        ("unheard of", 0.0, "gpt", ["gemma", "own", "new"]),
        ("", 1.0, "gemma", ["own", "gpt", "new"]),
    ],
    ids=["the RPC's", "the cheapest of the good", "the call's", "one model's own", "nobody's", "all but the unknown"],
)
async def test_the_best_is_told_by_the_figure_nearest_to_the_calls_category(
    rated, order, category, tolerance, first, others
):
    told = await order(rated, rule(rated, "quality", tolerance=tolerance), category=category)

    assert told == ([first, *others], "route:r,quality")


async def test_a_difference_of_quality_that_is_the_tolerance_is_within_it(candidate, order):
    models = [candidate("better", quality=0.8, cost=9), candidate("good", quality=0.7)]

    told, _ = await order(models, rule(models, "quality", tolerance=0.1))

    assert told == ["good", "better"]


async def test_models_of_unknown_quality_stay_as_listed(candidate, order):
    models = [candidate("b", cost=9), candidate("a", cost=1)]

    told, _ = await order(models, rule(models, "quality", tolerance=0.1))

    assert told == ["b", "a"]


@dataclass(frozen=True)
class _Reading(Query):
    rpc = "OCR"


async def test_an_rpc_has_a_category_of_its_own(candidate, make_route, ask):
    models = [
        replace(candidate("sees"), quality={"overall": 0.9, "document": 0.1}),
        replace(candidate("reads"), quality={"overall": 0.1, "document": 0.9}),
    ]

    answer = await make_route(models, default=rule(models, "quality")).answer(replace(ask(), query=_Reading()))

    assert answer.model == "reads"


@pytest.mark.parametrize(
    ("priority", "told"),
    [
        (Priority.COST, (["gemma", "new", "own", "gpt"], "route:r,priority:cost")),
        (Priority.QUALITY, (["own", "gpt", "gemma", "new"], "route:r,priority:quality")),
        (Priority.BALANCED, (["own", "gpt", "gemma", "new"], "route:r,quality")),
    ],
)
async def test_the_calls_priority_wins_over_the_routes_own_choice(rated, order, priority, told):
    # A category for which the route's own tolerance would make all alike.
    assert await order(rated, rule(rated, "quality"), priority=priority, category="forms") == told


async def test_the_calls_wish_for_quality_knows_no_tolerance(rated, order):
    told, _ = await order(rated, rule(rated, "quality", tolerance=1.0), priority=Priority.QUALITY)

    assert told == ["gpt", "gemma", "own", "new"]


@pytest.mark.parametrize("choose", ["cheapest", "fastest", "quality"])
@pytest.mark.parametrize("out", [{"is_open": lambda: True}, {"is_ready": lambda: False}], ids=["paused", "not ready"])
async def test_a_model_that_would_not_answer_now_comes_last(candidate, order, takes, choose, out):
    models = [
        replace(candidate("first", cost=1, quality=0.9), **out),
        candidate("second", cost=2, quality=0.8),
        candidate("third", cost=3, quality=0.7),
    ]
    for seconds, each in enumerate(models, start=1):
        takes(each.name, seconds)

    told, _ = await order(models, rule(models, choose))

    assert told == ["second", "third", "first"]


async def test_what_is_near_the_best_is_measured_against_those_that_would_answer(candidate, order):
    models = [
        replace(candidate("best", quality=0.95), is_open=lambda: True),
        candidate("dear", cost=9, quality=0.8),
        candidate("cheap", cost=1, quality=0.75),
    ]

    told, _ = await order(models, rule(models, "quality", tolerance=0.1))

    assert told == ["cheap", "dear", "best"]
