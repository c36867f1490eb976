"""Doubtful answers, through a whole gateway whose models are scripts."""

from __future__ import annotations

import io
import json

import pytest
from PIL import Image

from tests.fixtures.served_gateway import failure_of
from visiongateway.v1 import call_pb2, image_pb2, vision_service_pb2 as pb

NOTHING = json.dumps({"lines": []})
SOMETHING = json.dumps({"lines": [{"text": "TOTAL 7", "box_2d": [0, 0, 100, 500]}]})
REPAIRED = '{"lines": [{"text": "TOTAL 7", "box_2d": [0, 0, 100, 500],},]}'
# Prices in US dollars per 1M tokens, and what a scripted answer takes.
CHEAP, DEAR = {"input": "1", "output": "2"}, {"input": "10", "output": "20"}


def reading(**options):
    out = io.BytesIO()
    Image.new("RGB", (640, 480), "teal").save(out, "PNG")
    image = image_pb2.Image(data=out.getvalue())
    return pb.OCRRequest(image=image, with_regions=True, options=call_pb2.CallOptions(**options))


def script(answer, price, **options):
    return {"kind": "fake", "profile": "gemma4", "price": price, "answers": {"OCR": answer}, **options}


@pytest.fixture
def start(start_gateway):
    """Starts a gateway that asks `cheap` first, then `dear`."""

    async def started(cheap, dear=SOMETHING, *, route=(), cache="off", **of_dear):
        models = {"cheap": cheap, "dear": script(dear, DEAR) | of_dear}
        rules = {"models": ["cheap", "dear"], "escalate": True, **dict(route)}
        return await start_gateway(
            images={"workers": 1}, models=models, routes={"default": rules}, cache={"store": cache}
        )

    return started


def attempts(info):
    return [(each.model, each.outcome, each.reason) for each in info.attempts]


OK, FAILED = call_pb2.ATTEMPT_OUTCOME_OK, call_pb2.ATTEMPT_OUTCOME_FAILED


async def metrics(gateway):
    _, text = await gateway.get("/metrics")
    samples = (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, value in samples}


async def test_where_the_cheap_model_reads_nothing_the_dear_one_is_asked_and_both_are_billed(start):
    gateway = await start(script(NOTHING, CHEAP))

    answer = await gateway.stub.OCR(reading(), timeout=20)

    info = answer.info
    assert (answer.text, info.model, info.route_reason) == ("TOTAL 7", "dear", "route:default")
    assert attempts(info) == [("cheap", OK, "DOUBTFUL:EMPTY_TEXT"), ("dear", OK, "")]
    cheap, dear = info.attempts
    assert 0 < cheap.cost_nano_usd * 10 == dear.cost_nano_usd
    assert info.cost_nano_usd == cheap.cost_nano_usd + dear.cost_nano_usd
    assert info.usage.output_token_count == 24
    seen = await metrics(gateway)
    assert seen['vision_gateway_escalations_total{model="cheap",reason="EMPTY_TEXT",rpc="OCR"}'] == 1
    # Both together cost more than the dear one alone: nothing was saved.
    assert seen['vision_gateway_cost_saved_usd_total{model="dear",rpc="OCR"}'] == 0


async def test_what_was_repaired_is_not_asked_for_again(start):
    gateway = await start(script(REPAIRED, CHEAP))

    answer = await gateway.stub.OCR(reading(), timeout=20)

    assert (answer.text, attempts(answer.info)) == ("TOTAL 7", [("cheap", OK, "")])
    seen = await metrics(gateway)
    assert seen['vision_gateway_cost_saved_usd_total{model="cheap",rpc="OCR"}'] > 0


async def test_an_answer_that_was_cut_off_escalates(start):
    gateway = await start(script(SOMETHING, CHEAP, outcomes=["TRUNCATED_ANSWER"]))

    info = (await gateway.stub.OCR(reading(), timeout=20)).info

    assert attempts(info) == [("cheap", FAILED, "TRUNCATED_ANSWER"), ("dear", OK, "")]
    assert info.cost_nano_usd == sum(each.cost_nano_usd for each in info.attempts)


async def test_elsewhere_an_answer_that_was_cut_off_is_a_failure(start):
    gateway = await start(script(SOMETHING, CHEAP, outcomes=["TRUNCATED_ANSWER"]), route={"escalate": False})

    failure = await failure_of(gateway.stub.OCR(reading(), timeout=20))

    assert failure.reason == "TRUNCATED_ANSWER"


@pytest.mark.parametrize("reason", ["UPSTREAM_ACCOUNT", "REFUSED"])
async def test_where_the_dear_model_fails_the_doubtful_answer_is_given_and_named(start, reason):
    gateway = await start(script(NOTHING, CHEAP), outcomes=[reason])

    answer = await gateway.stub.OCR(reading(), timeout=20)

    assert (answer.text, answer.info.model) == ("", "cheap")
    assert answer.info.route_reason == "route:default,doubtful:EMPTY_TEXT"
    assert attempts(answer.info) == [("cheap", OK, "DOUBTFUL:EMPTY_TEXT"), ("dear", FAILED, reason)]


async def test_where_the_dear_model_is_too_dear_for_the_call_it_is_not_asked(start):
    gateway = await start(script(NOTHING, CHEAP))
    whole = await gateway.stub.OCR(reading(), timeout=20)
    most = 2 * whole.info.attempts[0].cost_nano_usd

    info = (await gateway.stub.OCR(reading(max_cost_nano_usd=most, max_output_tokens=16), timeout=20)).info

    assert [(each.model, each.reason) for each in info.attempts] == [
        ("cheap", "DOUBTFUL:EMPTY_TEXT"),
        ("dear", "COST_ABOVE_LIMIT"),
    ]
    assert info.model == "cheap"
    assert info.cost_nano_usd <= most


@pytest.mark.parametrize(
    ("options", "models"),
    [
        ({"model": "cheap"}, ["cheap"]),
        ({"model": "cheap", "allow_fallback": True}, ["cheap", "dear"]),
        ({"allow_fallback": False}, ["cheap"]),
        ({"local_only": True}, ["cheap"]),
    ],
    ids=str,
)
async def test_nobody_is_asked_whom_the_caller_keeps_out(start, options, models):
    gateway = await start(script(NOTHING, CHEAP, local=True), local=False)

    info = (await gateway.stub.OCR(reading(**options), timeout=20)).info

    assert [each.model for each in info.attempts] == models


async def test_a_doubtful_answer_out_of_the_cache_is_doubtful_too(start):
    gateway = await start(script(NOTHING, CHEAP), cache="memory")
    await gateway.stub.OCR(reading(), timeout=20)

    answer = await gateway.stub.OCR(reading(), timeout=20)

    assert (answer.text, answer.info.model, answer.info.cost_nano_usd) == ("TOTAL 7", "dear", 0)


async def test_what_was_left_out_of_an_answer_is_kept_in_the_cache_with_it(start):
    boxes = [{"label": "cat", "box_2d": box} for box in ([0, 0, 400, 400], [5, 5, 5, 9], [7, 7, 7, 9])]
    found = {each: json.dumps({"detections": boxes[:each]}) for each in (1, 3)}
    gateway = await start(
        script("", CHEAP) | {"answers": {"Detect": found[3]}}, answers={"Detect": found[1]}, cache="memory"
    )
    request = pb.DetectRequest(image=reading().image)

    infos = [(await gateway.stub.Detect(request, timeout=20)).info for _ in range(2)]

    assert attempts(infos[0]) == [("cheap", OK, "DOUBTFUL:USELESS_BOXES"), ("dear", OK, "")]
    assert [(info.model, info.route_reason) for info in infos] == [("dear", "route:default")] * 2


@pytest.mark.parametrize(
    ("other", "model", "agreement"), [(SOMETHING, "cheap", 1.0), (SOMETHING.replace("TOTAL 7", "xxxxxxx"), "dear", 0.0)]
)
async def test_a_sample_of_answers_is_compared_with_the_next_model_s(start, other, model, agreement):
    gateway = await start(script(SOMETHING, CHEAP), other, route={"agreement": {"share": 1.0}})

    info = (await gateway.stub.OCR(reading(), timeout=20)).info

    spare = {"cheap": "dear", "dear": "cheap"}[model]
    assert info.model == model
    assert info.attempts[0].reason == ("" if model == "cheap" else "DOUBTFUL:DISAGREEMENT")
    seen = await metrics(gateway)
    labels = f'{{model="{model}",other="{spare}",rpc="OCR"}}'
    assert seen[f"vision_gateway_agreement_ratio_sum{labels}"] == agreement
