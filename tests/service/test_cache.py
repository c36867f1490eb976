"""Whole gateways with a cache, over real stores, with scripted models behind them."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import signal
import sqlite3
from contextlib import closing, suppress

import grpc
import pytest
import redis
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


def _drawn(image_format="PNG", *, blue=0, orientation=1):
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


def _caption(data=None, **options):
    return pb.CaptionRequest(image=image_pb2.Image(data=data or _drawn()), options=options)


async def _metric(gateway, line):
    _, text = await gateway.get("/metrics")
    return sum(float(each.rpartition(" ")[2]) for each in text.splitlines() if each.startswith(line))


async def _asked(gateway):
    return await _metric(gateway, "vision_gateway_attempts_total{")


async def _outcomes(gateway):
    _, text = await gateway.get("/metrics")
    lines = [each for each in text.splitlines() if each.startswith("vision_gateway_cache_total{")]
    return {line.split('outcome="')[1].split('"')[0]: float(line.rpartition(" ")[2]) for line in lines}


@pytest.fixture(params=["memory", "sqlite", "redis"])
def store(request, tmp_path):
    if request.param == "memory":
        return "memory"
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/cache.db"
    return request.getfixturevalue("start_redis")()[0]


async def test_the_second_equal_call_is_a_hit_that_costs_nothing(start_gateway, store):
    gateway = await start_gateway(models={"paid": PAID}, cache={"store": store})

    first = await gateway.stub.Caption(_caption())
    second = await gateway.stub.Caption(_caption())

    assert (first.info.cache, second.info.cache) == (MISS, HIT)
    assert (second.text, second.info.model, second.info.backend) == (first.text, "paid", "fake")
    assert (second.info.prompt_version, second.info.provider_model) == (
        first.info.prompt_version,
        first.info.provider_model,
    )
    assert first.info.cost_nano_usd > 0
    assert (second.info.cost_nano_usd, second.info.cost_basis) == (0, call_pb2.COST_BASIS_FREE)
    assert (second.info.usage, list(second.info.attempts)) == (call_pb2.Usage(), [])
    assert second.info.image == first.info.image
    assert await _asked(gateway) == 1
    assert await _outcomes(gateway) == {"miss": 1, "hit": 1}


async def test_a_bypass_neither_reads_nor_fills_and_a_refresh_replaces(start_gateway):
    gateway = await start_gateway(models={"paid": PAID}, cache={"store": "memory"})
    policies = [call_pb2.CACHE_POLICY_BYPASS, 0, call_pb2.CACHE_POLICY_BYPASS, call_pb2.CACHE_POLICY_REFRESH, 0]

    seen = [(await gateway.stub.Caption(_caption(cache=policy))).info.cache for policy in policies]

    assert seen == [UNSET, MISS, UNSET, MISS, HIT]
    assert await _asked(gateway) == 4
    assert await _outcomes(gateway) == {"bypass": 2, "miss": 1, "refresh": 1, "hit": 1}


async def test_the_log_tells_what_the_cache_did(start_gateway, log_lines):
    gateway = await start_gateway(models={"paid": PAID}, cache={"store": "memory"})
    for policy in (0, 0, call_pb2.CACHE_POLICY_BYPASS):
        await gateway.stub.Caption(_caption(cache=policy))

    lines = [json.loads(line) for line in log_lines.getvalue().splitlines()]
    assert [line.get("cache") for line in lines if line["event"] == "call"] == ["miss", "hit", None]


async def test_without_a_cache_none_is_involved(start_gateway):
    gateway = await start_gateway(models={"paid": PAID})

    seen = [(await gateway.stub.Caption(_caption())).info.cache for _ in range(2)]

    assert (seen, await _asked(gateway), await _outcomes(gateway)) == ([UNSET, UNSET], 2, {})


async def test_a_hundred_equal_calls_at_once_are_one_call_upstream(start_gateway, store):
    gateway = await start_gateway(models={"paid": {**PAID, "delay_s": 0.3}}, cache={"store": store})

    answers = await asyncio.gather(*(gateway.stub.Caption(_caption()) for _ in range(100)))

    assert {answer.text for answer in answers} == {"A scripted answer."}
    costs = [answer.info.cost_nano_usd for answer in answers]
    assert sum(cost > 0 for cost in costs) == 1
    assert await _asked(gateway) == 1
    spent = await _metric(gateway, "vision_gateway_cost_usd_total{")
    assert round(spent * 1e9) == sum(costs)
    assert [answer.info.cache for answer in answers].count(MISS) == 1
    assert {answer.info.cache for answer in answers} <= {MISS, COALESCED, HIT}


async def test_every_answer_of_a_shared_call_is_told_in_its_own_name(start_gateway):
    gateway = await start_gateway(models={"paid": {**PAID, "delay_s": 0.3}}, cache={"store": "memory"})

    calls = [gateway.stub.Caption(_caption(), metadata=(("x-request-id", f"call-{i}"),)) for i in range(10)]
    answers = await asyncio.gather(*calls)

    assert [answer.info.request_id for answer in answers] == [f"call-{i}" for i in range(10)]


def _decoded(jpeg):
    out = io.BytesIO()
    with Image.open(io.BytesIO(jpeg)) as image:
        image.save(out, "PNG")
    return out.getvalue()


@pytest.mark.parametrize(
    ("one", "other"),
    [(_drawn("JPEG"), _decoded(_drawn("JPEG"))), (_drawn(), _drawn(orientation=6))],
    ids=["decoded-jpeg", "turned-by-exif"],
)
async def test_the_same_pixels_in_another_file_are_the_same_picture(start_gateway, one, other):
    gateway = await start_gateway(models={"paid": PAID}, cache={"store": "memory"})

    seen = [(await gateway.stub.Caption(_caption(data))).info.cache for data in (one, other)]

    assert seen == [MISS, HIT]


async def test_another_picture_parameter_or_option_is_another_call(start_gateway):
    answers = {"Detect": json.dumps({"detections": []})}
    gateway = await start_gateway(models={"paid": {**PAID, "answers": answers}}, cache={"store": "memory"})
    image, other = image_pb2.Image(data=_drawn()), image_pb2.Image(data=_drawn(blue=1))
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
    await gateway.stub.Caption(_caption())
    await failure_of(gateway.stub.Caption(_caption(_drawn(blue=9))))

    answer = await gateway.stub.Caption(_caption(max_cost_nano_usd=1))

    assert (answer.info.cache, await _metric(gateway, "vision_gateway_breaker_state{")) == (HIT, 2)


async def test_a_hit_is_served_while_the_budget_is_spent(start_gateway, tmp_path):
    gateway = await start_gateway(
        models={"paid": {**PAID, "output_tokens": 900}},
        cache={"store": "memory"},
        budgets={"store": f"sqlite:///{tmp_path}/budgets.db"},
        principals={"anonymous": {"budget": {"day": "1.5"}}},
    )
    await gateway.stub.Caption(_caption(max_output_tokens=1000))
    refused = await failure_of(gateway.stub.Caption(_caption(_drawn(blue=9), max_output_tokens=1000)))

    answer = await gateway.stub.Caption(_caption(max_output_tokens=1000))

    assert (refused.reason, answer.info.cache) == ("BUDGET_EXCEEDED", HIT)


async def test_a_dead_store_fails_no_call_and_is_counted(start_gateway, start_redis):
    url, process = start_redis()
    gateway = await start_gateway(models={"paid": PAID}, cache={"store": url})
    process.kill()
    process.wait()

    seen = [(await gateway.stub.Caption(_caption())).info.cache for _ in range(3)]

    assert seen == [MISS] * 3
    assert (await _outcomes(gateway))["error"] >= 3


async def test_a_silent_store_fails_no_call_and_is_used_again_once_it_speaks(start_gateway, start_redis):
    url, process = start_redis()
    gateway = await start_gateway(models={"paid": PAID}, cache={"store": url})
    process.send_signal(signal.SIGSTOP)
    try:
        silent = [(await gateway.stub.Caption(_caption())).info.cache for _ in range(3)]
    finally:
        process.send_signal(signal.SIGCONT)

    assert silent == [MISS] * 3
    async with asyncio.timeout(20):
        while (await gateway.stub.Caption(_caption())).info.cache != HIT:  # noqa: ASYNC110  seen from outside
            await asyncio.sleep(0.1)


async def _written(url):
    """Waits until there is an answer in the store, which is written behind the call."""
    async with asyncio.timeout(20):
        while not await asyncio.to_thread(_count, url):  # noqa: ASYNC110  seen from outside
            await asyncio.sleep(0.01)


def _count(url):
    if url.startswith("redis"):
        with redis.Redis.from_url(url) as server:
            return server.dbsize()
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection, suppress(sqlite3.OperationalError):
        return connection.execute("SELECT count(*) FROM answers").fetchone()[0]


@pytest.mark.parametrize("kind", ["sqlite", "redis"])
async def test_gateways_share_answers_through_one_store(start_gateway, request, tmp_path, kind):
    url = f"sqlite:///{tmp_path}/cache.db" if kind == "sqlite" else request.getfixturevalue("start_redis")()[0]
    one, other = [await start_gateway(models={"paid": PAID}, cache={"store": url}) for _ in range(2)]
    await one.stub.Caption(_caption())
    await _written(url)

    answer = await other.stub.Caption(_caption())

    assert (answer.info.cache, await _asked(other)) == (HIT, 0)


async def test_principals_can_be_kept_from_each_other_s_answers(start_gateway):
    key = "a key of anna's"
    gateway = await start_gateway(
        models={"paid": PAID},
        cache={"store": "memory", "scope": "principal"},
        principals={"anna": {"key_sha256": [hashlib.sha256(key.encode()).hexdigest()]}, "anonymous": {}},
    )
    as_anna = {"metadata": (("authorization", f"Bearer {key}"),)}
    callers = [{}, as_anna, {}, as_anna]

    seen = [(await gateway.stub.Caption(_caption(), **caller)).info.cache for caller in callers]

    assert seen == [MISS, MISS, HIT, HIT]


async def test_a_damaged_image_is_refused_as_without_a_cache(start_gateway):
    large = io.BytesIO()
    Image.effect_noise((2000, 1500), 50).convert("RGB").save(large, "PNG")
    start = large.getvalue().index(b"IDAT") + 4
    damaged = large.getvalue()[:start] + bytes(1000) + large.getvalue()[start + 1000 :]
    gateway = await start_gateway(models={"paid": PAID}, cache={"store": "memory"})

    failure = await failure_of(gateway.stub.Caption(_caption(damaged)))

    assert (failure.code, failure.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_IMAGE")


async def _in_flight(gateway, calls):
    """Waits until so many calls are worked on, and the model is asked."""
    async with asyncio.timeout(20):
        while (  # noqa: ASYNC110  seen from outside
            await _metric(gateway, 'vision_gateway_inflight{scope="server"}') < calls
            or await _metric(gateway, 'vision_gateway_inflight{scope="paid"}') < 1
        ):
            await asyncio.sleep(0.01)


async def test_when_the_first_caller_goes_the_others_get_the_answer_and_it_is_on_the_first_one_s_bill(
    start_gateway, tmp_path
):
    ledger = f"sqlite:///{tmp_path}/ledger.db"
    gateway = await start_gateway(
        models={"paid": {**PAID, "delay_s": 1.0}}, cache={"store": "memory"}, ledger={"url": ledger}
    )
    first = gateway.stub.Caption(_caption(), metadata=(("x-request-id", "first"),))
    await _in_flight(gateway, 1)
    others = [asyncio.ensure_future(gateway.stub.Caption(_caption())) for _ in range(3)]
    await _in_flight(gateway, 4)
    first.cancel()

    answers = await asyncio.gather(*others)

    assert [answer.info.cache for answer in answers] == [COALESCED] * 3
    assert [answer.info.cost_nano_usd for answer in answers] == [0] * 3
    with closing(sqlite3.connect(f"{tmp_path}/ledger.db")) as connection:
        rows = connection.execute("SELECT request_id, outcome FROM vision_gateway_attempts").fetchall()
    assert rows == [("first", "ok")]


async def test_a_first_caller_in_a_hurry_takes_nobody_along(start_gateway):
    gateway = await start_gateway(models={"paid": {**PAID, "delay_s": 1.0}}, cache={"store": "memory"})
    first = asyncio.ensure_future(failure_of(gateway.stub.Caption(_caption(), timeout=0.5)))
    await _in_flight(gateway, 1)
    others = [asyncio.ensure_future(gateway.stub.Caption(_caption(), timeout=20)) for _ in range(3)]

    answers = await asyncio.gather(*others)

    assert (await first).code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert sorted(answer.info.cache for answer in answers) == [MISS, COALESCED, COALESCED]


async def test_a_call_that_nobody_waits_for_any_more_is_cancelled(start_gateway):
    gateway = await start_gateway(models={"paid": {**PAID, "delay_s": 60}}, cache={"store": "memory"})
    calls = [gateway.stub.Caption(_caption()) for _ in range(3)]
    await _in_flight(gateway, 3)
    for call in calls:
        call.cancel()

    async with asyncio.timeout(20):
        while await _metric(gateway, 'vision_gateway_inflight{scope="paid"}'):  # noqa: ASYNC110  seen from outside
            await asyncio.sleep(0.01)
