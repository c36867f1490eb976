from __future__ import annotations

import pytest

from gateway.domain import Attempt, Outcome, Quote
from gateway.errors import BackendUnavailable, UnsupportedByModel
from gateway.policies.save import Save

LABELS = {"rpc": "Caption", "model": "m"}
SAVED = "vision_gateway_cost_saved_usd_total"


def cannot(_):
    raise UnsupportedByModel("one image at most")


def costs(nano_usd):
    return lambda _: Quote(0, 0, 0, nano_usd, nano_usd)


@pytest.mark.parametrize(
    ("quotes", "spent", "saved"),
    [
        ({"m": costs(100), "n": costs(900)}, 100, 800),
        ({"m": costs(100), "n": costs(900)}, 1000, 0),
        ({"n": costs(100), "o": cannot}, 30, 70),
        ({"m": costs(900), "n": costs(100)}, 300, 0),
    ],
    ids=[
        "against the dearest",
        "never less than nothing",
        "not against one that could not be asked",
        "nor by the dearest",
    ],
)
async def test_what_an_answer_cost_less_than_the_dearest_model_is_counted(
    model, metrics, ask, sample, quotes, spent, saved
):
    asked = ask()
    asked.trace.attempts.append(Attempt("m", Outcome.OK, cost_nano_usd=spent))

    await Save(model(), quotes=quotes, metrics=metrics).answer(asked)

    assert sample(SAVED, **LABELS) == pytest.approx(saved * 1e-9)


async def test_an_answer_of_the_dearest_model_in_the_end_saves_nothing(model, metrics, ask, sample):
    asked = ask()
    asked.trace.attempts += [Attempt("n", Outcome.OK, cost_nano_usd=10), Attempt("m", Outcome.OK, cost_nano_usd=500)]

    await Save(model(), quotes={"m": costs(900), "n": costs(100)}, metrics=metrics).answer(asked)

    assert sample(SAVED, **LABELS) == 0


async def test_one_model_alone_saves_nothing(model, metrics, ask, sample):
    await Save(model(), quotes={"m": costs(900)}, metrics=metrics).answer(ask())

    assert sample(SAVED, **LABELS) is None


async def test_a_failure_saves_nothing(model, metrics, ask, sample):
    with pytest.raises(BackendUnavailable):
        await Save(
            model("m", BackendUnavailable("down")), quotes={"m": costs(1), "n": costs(900)}, metrics=metrics
        ).answer(ask())

    assert sample(SAVED, **LABELS) is None
