from __future__ import annotations

from fractions import Fraction

import pytest

from gateway.settings import CacheSettings
from gateway.simulation import trace
from gateway.simulation.expectation import expected
from gateway.simulation.replay import Simulation
from gateway.simulation.report import figures
from gateway.simulation.scripts import Drawn
from gateway.simulation.trace import Call

SURE = {"noticed": Fraction(0)}


def replay(simulation, calls, route=None):
    named = {str(number): call for number, call in enumerate(calls)}
    return simulation.replay(named, Drawn(named, simulation.behaviours, simulation.seed), route=route)


def test_equal_seeds_give_equal_figures_and_other_seeds_others(simulation):
    calls = trace.synthetic(200, per_s=1, seed=1)

    first, again, other = (figures(simulation(seed=seed), calls, route="both") for seed in (1, 1, 2))

    assert (first == again, first == other) == (True, False)


@pytest.mark.parametrize(
    ("route", "right", "nano_usd"), [("cheap", Fraction(46, 67), 88_260), ("dear", Fraction(52, 67), 11_140_000)]
)
def test_a_model_alone_has_the_published_pass_rate_and_the_cost_of_the_median_tokens(
    simulation, route, right, nano_usd
):
    calls = trace.synthetic(67, per_s=1, seed=1)

    found = expected(simulation(**SURE), calls, route=route)

    # 294 and 214 tokens at 60 and 330 nano-USD; 1,400 and 138 at 5,000 and 30,000.
    assert (found.right, found.cost_nano_usd) == (right, nano_usd)


@pytest.mark.parametrize("route", ["cheap", "dear", "escalate"])
def test_what_is_sampled_lies_where_it_is_expected(simulation, route):
    found = figures(simulation(), trace.synthetic(2010, per_s=1, seed=1), route=route)

    # Of four standard errors a sample is outside once in 16,000; the seed is fixed.
    assert found.share_right == pytest.approx(float(found.expected_right), abs=4 * found.standard_error)


def test_every_call_ends_once_whatever_happens_to_it(simulation):
    calls = [
        Call(at_s=number / 20, rpc=rpc, deadline_s=deadline_s, urgency="bulk" if number % 3 else "", category="object")
        for number, (rpc, deadline_s) in enumerate(
            (rpc, deadline_s)
            for _ in range(20)
            for rpc in ("Caption", "OCR", "Detect", "Classify", "VQA")
            for deadline_s in (0.01, 3.0, 60.0)
        )
    ]

    found = figures(simulation(failures=0.2, capacity=8), calls, route="both")

    assert found.answered + sum(found.failures.values()) == len(calls) == 300
    # Some were answered by the second model; some failed at both, took too long, or were too short to start.
    assert found.models.keys() == {"cheap", "dear"}
    assert found.failures.keys() >= {"BACKEND_UNAVAILABLE", "DEADLINE", "DEADLINE_TOO_SHORT"}


def test_a_call_costs_the_sum_of_its_attempts(simulation):
    ends = replay(simulation(noticed=Fraction(1)), trace.synthetic(67, per_s=1, seed=1), "escalate").ends

    costs = {tuple(attempt.model for attempt in end.attempts): end.cost_nano_usd for end in ends}
    assert costs == {("cheap",): 88_260, ("cheap", "dear"): 88_260 + 11_140_000}


def test_what_no_call_waits_for_is_paid_all_the_same(simulation):
    routes = {"watched": {"models": ["cheap"], "shadow": {"model": "dear", "share": 1}}}
    calls = [Call(at_s=10.0 * number) for number in range(3)]

    found = figures(simulation(**SURE, routes=routes), calls, route="watched")

    assert found.cost_nano_usd == 3 * (88_260 + 11_140_000)


def test_routes_are_compared_on_the_same_answers(simulation):
    made = simulation(**SURE)
    calls = trace.synthetic(134, per_s=1, seed=1)

    alone, with_another = (replay(made, calls, route).ends for route in ("cheap", "both"))

    assert [(end.right, end.seconds) for end in alone] == [(end.right, end.seconds) for end in with_another]


def test_a_model_works_on_so_many_calls_at_once_and_the_others_wait(simulation):
    made = simulation(**SURE, capacity=1, seconds=10.0, seconds_per_token=0.0, seconds_spread=0.0)

    ends = replay(made, [Call(), Call(), Call()], "cheap").ends

    assert [end.seconds for end in ends] == [10.0, 20.0, 30.0]


def test_a_call_ends_at_its_deadline(simulation):
    made = simulation(seconds=100.0)

    [end] = replay(made, [Call(deadline_s=30.0)], "cheap").ends

    assert (end.model, end.reason, end.right, end.seconds) == ("", "DEADLINE", False, 30.0)


def test_a_model_that_is_down_is_passed_over_for_the_next(simulation):
    made = simulation(**SURE)
    broken = made.behaviours["cheap"].model_copy(update={"failures": 1.0, "failure_seconds": 0.5})
    made = Simulation(made.settings, {**made.behaviours, "cheap": broken}, 1)

    [end] = replay(made, [Call()], "both").ends

    assert [(each.model, each.reason) for each in end.attempts] == [("cheap", "BACKEND_UNAVAILABLE"), ("dear", "")]


def test_the_size_of_an_image_counts_where_it_is_known(simulation):
    ends = replay(simulation(**SURE), [Call(width=512, height=512), Call()], "dear").ends

    images = [end.attempts[-1].usage.input_image for end in ends]
    # 16 x 16 patches at 1.2 tokens; 32 x 32 of the size that is taken for unknown ones.
    assert images == [308, 1229]


def test_what_the_caller_allows_is_kept_to(simulation):
    [end] = replay(simulation(**SURE), [Call(max_cost_nano_usd=1000)], "both").ends

    assert (end.reason, end.cost_nano_usd) == ("COST_ABOVE_LIMIT", 0)


def test_a_call_goes_where_it_says_unless_all_are_sent_one_way(simulation):
    calls = [Call(route="dear"), Call()]

    ways = [[end.model for end in replay(simulation(**SURE), calls, route).ends] for route in (None, "cheap")]

    assert ways == [["dear", "cheap"], ["cheap", "cheap"]]


def test_nothing_exact_is_said_of_what_policies_leave_to_chance(simulation):
    routes = {"drawn": {"models": ["cheap", "dear"], "choose": "weights", "weights": {"cheap": 1, "dear": 1}}}

    assert expected(simulation(routes=routes), [Call()], route="drawn") is None


def test_equal_calls_are_answered_out_of_the_cache_where_there_is_one(simulation):
    made = simulation(**SURE)
    calls = [Call(at_s=60.0 * number, image=image) for number, image in enumerate(("cat", "dog", "cat", ""))]
    cached = Simulation(made.settings.model_copy(update={"cache": CacheSettings(store="memory")}), made.behaviours, 1)

    found = [figures(each, calls, route="cheap") for each in (made, cached)]

    assert [(each.cached, each.cost_nano_usd) for each in found] == [(0, 4 * 88_260), (1, 3 * 88_260)]
    assert found[0].right == found[1].right


def test_a_store_that_the_settings_name_is_left_alone(simulation, tmp_path):
    made = simulation(**SURE)
    store = tmp_path / "cache.db"
    cached = made.settings.model_copy(update={"cache": CacheSettings(store=f"sqlite:///{store}")})

    figures(Simulation(cached, made.behaviours, 1), [Call(image="cat")], route="cheap")

    assert not store.exists()


def test_calls_beyond_the_limits_of_the_settings_are_shed(simulation, models):
    narrow = {name: {**table, "max_inflight": 1, "max_queue": 0} for name, table in models.items()}
    made = simulation(**SURE, models=narrow)

    found = figures(made, [Call(), Call(), Call()], route="cheap")

    assert (found.answered, found.shed, found.failures) == (1, 2, {"OVERLOADED": 2})
