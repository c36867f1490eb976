"""Models that cannot do a call are not asked, and the caller is told why."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.domain import Outcome, Priority, Quote
from gateway.errors import CostAboveLimit, UnsupportedByModel
from gateway.policies.route import Rule

READS_ONLY = "reader is not asked for Caption, only for Classify, OCR"


def _cannot(_):
    raise UnsupportedByModel("small takes at most 1 image(s); 2 were sent", metadata={"limit": "images"})


@pytest.fixture
def models(candidate):
    return {
        "reader": replace(candidate("reader"), tasks=frozenset({"OCR", "Classify"})),
        "small": replace(candidate("small"), quote=_cannot),
        "able": replace(candidate("able", cost=7), tasks=frozenset({"Caption"})),
    }


def left_out(ask):
    return [(each.model, each.outcome, each.reason) for each in ask.trace.attempts]


async def test_models_that_cannot_do_the_call_are_left_out_and_recorded(models, make_route, ask, sample):
    asked = ask()

    answer = await make_route(models.values()).answer(asked)

    assert answer.model == "able"
    assert left_out(asked) == [
        ("reader", Outcome.SKIPPED, "UNSUPPORTED_BY_MODEL"),
        ("small", Outcome.SKIPPED, "UNSUPPORTED_BY_MODEL"),
    ]
    assert [len(model.model.asked) for model in models.values()] == [0, 0, 1]
    labels = {"rpc": "Caption", "outcome": "skipped", "reason": "UNSUPPORTED_BY_MODEL"}
    assert sample("vision_gateway_attempts_total", model="reader", **labels) == 1


async def test_when_nobody_can_do_the_call_it_is_said_of_each_why(models, make_route, ask):
    route = make_route(models.values(), default=Rule(("reader", "small")))

    with pytest.raises(UnsupportedByModel) as caught:
        await route.answer(ask())

    assert str(caught.value) == (
        f"no model can do this call: {READS_ONLY}; small takes at most 1 image(s); 2 were sent"
    )
    assert caught.value.metadata == {"attempts": "reader:UNSUPPORTED_BY_MODEL,small:UNSUPPORTED_BY_MODEL"}


@pytest.mark.parametrize("options", [{"priority": priority} for priority in Priority])
async def test_whatever_the_order_nobody_is_asked_when_nobody_can(models, make_route, ask, options):
    with pytest.raises(UnsupportedByModel):
        await make_route(models.values(), default=Rule(("reader", "small"), "cheapest")).answer(ask(**options))


@pytest.mark.parametrize(("pinned", "message"), [("reader", READS_ONLY), ("small", "small takes at most 1 image")])
async def test_a_pinned_model_that_cannot_is_refused_for_its_own_reason(models, make_route, ask, pinned, message):
    asked = ask(model=pinned)

    with pytest.raises(UnsupportedByModel, match=message):
        await make_route(models.values()).answer(asked)

    assert left_out(asked) == [(pinned, Outcome.SKIPPED, "UNSUPPORTED_BY_MODEL")]


async def test_a_pinned_model_that_cannot_may_be_fallen_back_from(models, make_route, ask):
    asked = ask(model="small", allow_fallback=True)

    answer = await make_route(models.values()).answer(asked)

    assert (answer.model, asked.trace.route_reason) == ("able", "route:default")


async def test_without_fallback_the_first_model_that_can_is_asked(models, make_route, ask):
    assert (await make_route(models.values()).answer(ask(allow_fallback=False))).model == "able"


async def test_a_model_kept_out_by_local_only_is_not_blamed_for_what_it_cannot(models, make_route, ask):
    models["reader"] = replace(models["reader"], local=False)
    asked = ask(local_only=True)

    await make_route(models.values()).answer(asked)

    assert left_out(asked) == [("small", Outcome.SKIPPED, "UNSUPPORTED_BY_MODEL")]


def test_a_quote_shows_those_that_would_be_asked_in_order_and_then_those_that_cannot(
    models, make_route, ask, candidate
):
    route = make_route([*models.values(), candidate("free")], default=Rule((*models, "free"), "cheapest"))
    asked = ask()

    offers = route.offers(asked)

    assert [(offer.model, offer.skip_reason) for offer in offers] == [
        ("free", ""),
        ("able", ""),
        ("reader", "UNSUPPORTED_BY_MODEL"),
        ("small", "UNSUPPORTED_BY_MODEL"),
    ]
    assert asked.trace.attempts == []


def test_a_quote_of_what_nobody_can_do_says_so_of_each(models, make_route, ask):
    offers = make_route(models.values(), default=Rule(("reader", "small"))).offers(ask())

    assert [offer.skip_reason for offer in offers] == ["UNSUPPORTED_BY_MODEL"] * 2


def test_a_quote_shows_the_price_of_a_model_that_is_too_dear(candidate, make_route, ask):
    def too_dear(*_):
        raise CostAboveLimit("too dear")

    dear = replace(candidate("dear", cost=9), fit=too_dear)

    [offer] = make_route([dear]).offers(ask(max_cost_nano_usd=1))

    assert (offer.quote, offer.skip_reason) == (Quote(0, 0, 0, 9, 9), "COST_ABOVE_LIMIT")


@pytest.mark.parametrize(
    ("choose", "weights"), [("weights", {"old": 9, "new": 1}), ("fastest", {})], ids=["weights", "fastest"]
)
def test_a_quote_shows_the_likeliest_order_where_chance_decides(
    candidate, make_route, ask, takes, chance, choose, weights
):
    models = [candidate("old"), candidate("new")]
    takes("old", 1.0)
    chance.number = 0.0

    offers = make_route(models, default=Rule(("old", "new"), choose, weights)).offers(ask())

    assert ([offer.model for offer in offers], chance.drawn) == (["old", "new"], [])


@pytest.mark.parametrize("out", [{"is_open": lambda: True}, {"is_ready": lambda: False}], ids=["paused", "not ready"])
def test_a_quote_says_who_would_be_passed_over_for_another_one(candidate, make_route, ask, out):
    first, last = replace(candidate("first"), **out), replace(candidate("last"), **out)

    offers = make_route([first, candidate("well"), last]).offers(ask())

    assert [(offer.model, offer.quote.expected_cost, offer.skip_reason) for offer in offers] == [
        ("first", 0, "BACKEND_UNAVAILABLE"),
        ("well", 0, ""),
        ("last", 0, ""),
    ]
