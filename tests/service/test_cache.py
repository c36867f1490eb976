"""Whole gateways with a cache, with scripted models behind them."""

from __future__ import annotations

import hashlib
import io
import json

import grpc
import pytest
from PIL import Image

from tests.fixtures.pictures import ORIENTATION
from tests.fixtures.served_gateway import failure_of
from visiongateway.v1 import call_pb2, image_pb2, vision_service_pb2 as pb

PAID = {"kind": "fake", "profile": "gemma4", "price": {"input": "1000", "output": "1000"}}
UNSET, HIT, MISS, COALESCED = (
    call_pb2.CACHE_OUTCOME_UNSPECIFIED,
    call_pb2.CACHE_OUTCOME_HIT,
    call_pb2.CACHE_OUTCOME_MISS,
    call_pb2.CACHE_OUTCOME_COALESCED,
)


def drawn(image_format="PNG", *, blue=0, orientation=1):
    """A picture that is not the same turned, or in another blue."""
    picture = Image.linear_gradient("L").resize((96, 64)).convert("RGB")
    picture.paste((255, 0, blue), (0, 0, 20, 10))
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    if orientation == 6:
        picture = picture.transpose(Image.Transpose.ROTATE_90)
    out = io.BytesIO()
    picture.save(out, image_format, exif=exif)
    return out.getvalue()


def caption(data=None, **options):
    return pb.CaptionRequest(image=image_pb2.Image(data=data or drawn()), options=options)


async def metric(gateway, line):
    _, text = await gateway.get("/metrics")
    return sum(float(each.rpartition(" ")[2]) for each in text.splitlines() if each.startswith(line))


async def asked(gateway):
    return await metric(gateway, "vision_gateway_attempts_total{")


async def outcomes(gateway):
    _, text = await gateway.get("/metrics")
    lines = [each for each in text.splitlines() if each.startswith("vision_gateway_cache_total{")]
    return {line.split('outcome="')[1].split('"')[0]: float(line.rpartition(" ")[2]) for line in lines}


async def test_a_bypass_neither_reads_nor_fills_and_a_refresh_replaces(start_gateway):
    gateway = await start_gateway(models={"paid": PAID}, cache={"store": "memory"})
    policies = [call_pb2.CACHE_POLICY_BYPASS, 0, call_pb2.CACHE_POLICY_BYPASS, call_pb2.CACHE_POLICY_REFRESH, 0]

    seen = [(await gateway.stub.Caption(caption(cache=policy))).info.cache for policy in policies]

    assert seen == [UNSET, MISS, UNSET, MISS, HIT]
    assert await asked(gateway) == 4
    assert await outcomes(gateway) == {"bypass": 2, "miss": 1, "refresh": 1, "hit": 1}


async def test_the_log_tells_what_the_cache_did(start_gateway, log_lines):
    gateway = await start_gateway(models={"paid": PAID}, cache={"store": "memory"})
    for policy in (0, 0, call_pb2.CACHE_POLICY_BYPASS):
        await gateway.stub.Caption(caption(cache=policy))

    lines = [json.loads(line) for line in log_lines.getvalue().splitlines()]
    assert [line.get("cache") for line in lines if line["event"] == "call"] == ["miss", "hit", None]


async def test_without_a_cache_none_is_involved(start_gateway):
    gateway = await start_gateway(models={"paid": PAID})

    seen = [(await gateway.stub.Caption(caption())).info.cache for _ in range(2)]

    assert (seen, await asked(gateway), await outcomes(gateway)) == ([UNSET, UNSET], 2, {})


def _decoded(jpeg):
    out = io.BytesIO()
    with Image.open(io.BytesIO(jpeg)) as image:
        image.save(out, "PNG")
    return out.getvalue()


@pytest.mark.parametrize(
    ("one", "other"),
    [(drawn("JPEG"), _decoded(drawn("JPEG"))), (drawn(), drawn(orientation=6))],
    ids=["decoded-jpeg", "turned-by-exif"],
)
async def test_the_same_pixels_in_another_file_are_the_same_picture(start_gateway, one, other):
    gateway = await start_gateway(models={"paid": PAID}, cache={"store": "memory"})

    seen = [(await gateway.stub.Caption(caption(data))).info.cache for data in (one, other)]

    assert seen == [MISS, HIT]


async def test_another_picture_parameter_or_option_is_another_call(start_gateway):
    answers = {"Detect": json.dumps({"detections": []})}
    gateway = await start_gateway(models={"paid": {**PAID, "answers": answers}}, cache={"store": "memory"})
    image, other = image_pb2.Image(data=drawn()), image_pb2.Image(data=drawn(blue=1))
    options = [{}, {"temperature": 0.0}, {"temperature": 0.5}, {"seed": 1}, {"image_detail": 4}, {"reasoning": 2}]
    calls = [
        *(gateway.stub.Detect(pb.DetectRequest(image=image, options=each)) for each in options),
        gateway.stub.Detect(pb.DetectRequest(image=other)),
        gateway.stub.Detect(pb.DetectRequest(image=image, labels=["cat"])),
        gateway.stub.Detect(pb.DetectRequest(image=image, max_detections=3)),
        gateway.stub.Caption(pb.CaptionRequest(image=image)),
        gateway.stub.Caption(pb.CaptionRequest(image=image, language="de")),
    ]

    seen = [(await call).info.cache for call in calls]

    assert seen == [MISS] * len(calls)


async def test_a_hit_is_served_while_the_model_is_paused_and_however_little_it_may_cost(start_gateway):
    model = {**PAID, "retry": False, "breaker": {"failures": 1, "open_s": 60, "longest_open_s": 60}}
    outcomes = ["OK", *["BACKEND_UNAVAILABLE"] * 9]
    gateway = await start_gateway(models={"paid": {**model, "outcomes": outcomes}}, cache={"store": "memory"})
    await gateway.stub.Caption(caption())
    await failure_of(gateway.stub.Caption(caption(drawn(blue=9))))

    answer = await gateway.stub.Caption(caption(max_cost_nano_usd=1))

    assert (answer.info.cache, await metric(gateway, "vision_gateway_breaker_state{")) == (HIT, 2)


async def test_a_hit_is_served_while_the_model_is_not_ready_and_another_one_is(start_gateway):
    gateway = await start_gateway(models={"down": {**PAID, "ready": False}, "well": PAID}, cache={"store": "memory"})
    seen = [(await gateway.stub.Caption(caption(model=model))).info for model in ("down", "")]

    assert [(info.model, info.cache) for info in seen] == [("down", MISS), ("down", HIT)]


async def test_a_hit_is_served_while_the_budget_is_spent(start_gateway, tmp_path):
    gateway = await start_gateway(
        models={"paid": {**PAID, "output_tokens": 900}},
        cache={"store": "memory"},
        budgets={"store": f"sqlite:///{tmp_path}/budgets.db"},
        principals={"anonymous": {"budget": {"day": "1.5"}}},
    )
    await gateway.stub.Caption(caption(max_output_tokens=1000))
    refused = await failure_of(gateway.stub.Caption(caption(drawn(blue=9), max_output_tokens=1000)))

    answer = await gateway.stub.Caption(caption(max_output_tokens=1000))

    assert (refused.reason, answer.info.cache) == ("BUDGET_EXCEEDED", HIT)


async def test_principals_can_be_kept_from_each_other_s_answers(start_gateway):
    key = "a key of anna's"
    gateway = await start_gateway(
        models={"paid": PAID},
        cache={"store": "memory", "scope": "principal"},
        principals={"anna": {"key_sha256": [hashlib.sha256(key.encode()).hexdigest()]}, "anonymous": {}},
    )
    as_anna = {"metadata": (("authorization", f"Bearer {key}"),)}
    callers = [{}, as_anna, {}, as_anna]

    seen = [(await gateway.stub.Caption(caption(), **caller)).info.cache for caller in callers]

    assert seen == [MISS, MISS, HIT, HIT]


async def test_a_damaged_image_is_refused_as_without_a_cache(start_gateway):
    large = io.BytesIO()
    Image.effect_noise((2000, 1500), 50).convert("RGB").save(large, "PNG")
    start = large.getvalue().index(b"IDAT") + 4
    damaged = large.getvalue()[:start] + bytes(1000) + large.getvalue()[start + 1000 :]
    gateway = await start_gateway(models={"paid": PAID}, cache={"store": "memory"})

    failure = await failure_of(gateway.stub.Caption(caption(damaged)))

    assert (failure.code, failure.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_IMAGE")
