"""Comparisons through a whole gateway: everything is real but the models."""

from __future__ import annotations

import asyncio
import json

import pytest

from gateway.backends import fake
from tests.fixtures.comparisons import compared, detect, error_info, metric, reason, scripted
from visiongateway.v1 import call_pb2, vision_service_pb2 as pb

CAT, CUP = [100, 200, 500, 700], [0, 0, 200, 100]


async def test_the_agreement_names_the_objects_that_were_taken_for_the_same(start_gateway):
    other = [100, 200, 500, 600]
    gateway = await start_gateway(
        models={"one": scripted(CUP, CAT), "two": scripted(other, {"label": "dog", "box_2d": CUP})}
    )

    rows, last, _ = await compared(gateway, detect=detect())

    (pair,) = last.agreement.pairs
    matched = [(match.first_index, match.second_index, round(match.iou, 6)) for match in pair.matches]
    assert matched == [(1, 0, 0.8)]
    assert (pair.first_model, pair.second_model, round(pair.score, 6)) == ("one", "two", 0.4)
    assert rows["one"].answer.detect.detections[1].box.x_max == pytest.approx(0.7)


async def test_models_stand_in_the_agreement_in_the_order_in_which_they_are_named(start_gateway):
    gateway = await start_gateway(models={name: scripted(CAT) for name in ("a", "b", "c")})

    _, last, _ = await compared(gateway, "c", "a", "b", detect=detect())

    pairs = [(pair.first_model, pair.second_model) for pair in last.agreement.pairs]
    assert pairs == [("c", "a"), ("c", "b"), ("a", "b")]


async def test_a_model_that_fails_has_a_row_that_says_why_and_what_it_cost_all_the_same(start_gateway):
    gateway = await start_gateway(models={"well": scripted(CAT), "unwell": scripted(outcomes=["REFUSED"])})

    rows, last, _ = await compared(gateway, detect=detect())

    info = rows["unwell"].info
    assert (reason(rows["unwell"]), reason(rows["well"]), len(last.agreement.pairs)) == ("REFUSED", None, 0)
    assert info.cost_nano_usd > 0
    assert [(each.model, each.reason) for each in info.attempts] == [("unwell", "REFUSED")]
    assert (info.cost_basis, info.image.width_px) == (call_pb2.COST_BASIS_BILLED, 64)


async def test_what_all_of_them_cost_is_in_the_last_message_and_in_the_trailers(start_gateway):
    gateway = await start_gateway(
        models={"one": scripted(CAT), "two": scripted(CAT), "unwell": scripted(outcomes=["REFUSED"])}
    )

    rows, last, trailers = await compared(gateway, detect=detect())

    cost = sum(row.info.cost_nano_usd for row in rows.values())
    assert (last.info.cost_nano_usd, trailers["x-vision-cost-nano-usd"]) == (cost, str(cost))
    assert sorted(each.model for each in last.info.attempts) == ["one", "two", "unwell"]
    assert sorted(trailers["x-vision-model"].split(",")) == ["one", "two"]


async def test_who_is_late_has_a_row_and_the_agreement_of_the_others_still_comes(start_gateway):
    models = {"one": scripted(CAT), "two": scripted(CAT), "late": scripted(CAT, delay_s=600)}
    gateway = await start_gateway(models=models)

    rows, last, _ = await compared(gateway, detect=detect(), within_s=4)

    assert {name: reason(row) for name, row in rows.items()} == {"one": None, "two": None, "late": "DEADLINE"}
    assert [(pair.first_model, pair.score) for pair in last.agreement.pairs] == [("one", 1.0)]


async def test_each_answer_comes_as_soon_as_it_is_there(start_gateway):
    gateway = await start_gateway(models={"late": scripted(CAT, delay_s=600), "one": scripted(CAT)})
    call = gateway.stub.Compare(pb.CompareRequest(detect=detect()), timeout=20)

    first = await call.read()

    assert (first.model, first.HasField("answer")) == ("one", True)
    call.cancel()


async def test_a_caller_that_goes_ends_every_call_that_was_made_for_it(start_gateway):
    gateway = await start_gateway(models={name: scripted(CAT, delay_s=600) for name in ("one", "two")})
    call = gateway.stub.Compare(pb.CompareRequest(detect=detect()), timeout=60)
    await in_flight(gateway, 1.0)

    call.cancel()

    await in_flight(gateway, 0.0)
    for model in ("one", "two"):
        cancelled = f'vision_gateway_attempts_total{{model="{model}",outcome="failed",reason="CANCELLED",rpc="Detect"}}'
        assert await metric(gateway, cancelled) == [1.0]


async def in_flight(gateway, count):
    """Waits until each model has *count* calls."""
    async with asyncio.timeout(20):
        for model in ("one", "two"):
            line = f'vision_gateway_inflight{{scope="{model}"}}'
            while await metric(gateway, line) != [count]:  # noqa: ASYNC110  seen from outside
                await asyncio.sleep(0.02)


async def test_all_models_together_stay_within_the_budget(start_gateway, tmp_path):
    paid = scripted(CAT, price={"input": "1000", "output": "1000"}, output_tokens=12, delay_s=0.3)
    gateway = await start_gateway(
        models={"one": paid, "two": paid, "three": paid},
        budgets={"store": f"sqlite:///{tmp_path}/budgets.db"},
        principals={"anonymous": {"budget": {"hour": "10.00"}}},
    )

    rows, last, _ = await compared(gateway, detect=detect(max_output_tokens=5000))

    reasons = sorted(str(reason(row)) for row in rows.values())
    assert reasons == ["BUDGET_EXCEEDED", "BUDGET_EXCEEDED", "None"]
    assert 0 < last.info.cost_nano_usd <= 10_000_000_000


async def test_a_second_comparison_is_answered_from_the_cache(start_gateway):
    gateway = await start_gateway(models={"one": scripted(CAT), "two": scripted(CAT)}, cache={"store": "memory"})

    first, _, _ = await compared(gateway, detect=detect())
    second, last, trailers = await compared(gateway, detect=detect())

    caches = [[row.info.cache for row in rows.values()] for rows in (first, second)]
    assert caches == [[call_pb2.CACHE_OUTCOME_MISS] * 2, [call_pb2.CACHE_OUTCOME_HIT] * 2]
    assert (last.info.cost_nano_usd, last.agreement.pairs[0].score) == (0, 1.0)
    assert sorted(trailers["x-vision-model"].split(",")) == ["one", "two"]


async def test_nothing_is_called_saved(start_gateway):
    dear = scripted(CAT, price={"input": "100", "output": "200"})
    gateway = await start_gateway(models={"cheap": scripted(CAT), "dear": dear})

    await compared(gateway, detect=detect())

    assert await metric(gateway, "vision_gateway_cost_saved_usd_total") == []


@pytest.mark.parametrize(
    "rules",
    [
        {"escalate": True, "agreement": {"share": 1}},
        {"hedge": {"after_s": 0.001}},
        {"shadow": {"model": "other", "share": 1}},
    ],
    ids=["escalation", "hedge", "shadow"],
)
async def test_what_a_route_does_besides_is_not_done(start_gateway, rules):
    gateway = await start_gateway(
        models={"one": scripted(CAT, delay_s=0.2), "two": scripted(CAT), "other": scripted(CAT)},
        routes={"default": {"models": ["one", "two"], **rules}},
    )

    rows, last, _ = await compared(gateway, "one", detect=detect())

    assert [(each.model, each.reason) for each in last.info.attempts] == [("one", "")]
    assert rows["one"].info.route_reason == "pinned"
    assert await metric(gateway, "vision_gateway_shadows_total") == []


async def test_a_bug_met_with_one_model_is_that_models_own(start_gateway, monkeypatch, log_lines):
    complete = fake.Fake.complete

    async def broken(backend, prompt, images, *, timeout_s):
        text = await complete(backend, prompt, images, timeout_s=timeout_s)
        if backend._options.output_tokens == 999:
            raise RuntimeError("of no concern to callers")
        return text

    monkeypatch.setattr(fake.Fake, "complete", broken)
    gateway = await start_gateway(models={"well": scripted(CAT), "broken": scripted(CAT, output_tokens=999)})

    rows, _, _ = await compared(gateway, detect=detect())

    assert {name: reason(row) for name, row in rows.items()} == {"well": None, "broken": "INTERNAL"}
    assert "of no concern" not in f"{rows['broken']}{log_lines.getvalue()}"
    (line,) = [each for each in map(json.loads, log_lines.getvalue().splitlines()) if each["event"] == "bug"]
    assert line["error_id"] == error_info(rows["broken"].status).metadata["error_id"]


async def test_the_log_has_every_attempt_and_no_more_overhead_than_there_was(start_gateway, log_lines):
    gateway = await start_gateway(models={name: scripted(CAT, delay_s=0.5) for name in ("one", "two")})

    await compared(gateway, detect=detect())

    (line,) = [each for each in map(json.loads, log_lines.getvalue().splitlines()) if each["event"] == "call"]
    assert sorted(each["model"] for each in line["attempts"]) == ["one", "two"]
    assert (line["rpc"], sorted(line["model"].split(","))) == ("Compare", ["one", "two"])
    assert line["total_ms"] - line["overhead_ms"] >= 500
