"""A thousand mixed calls, whose sum is the same in four places: the ledger, the metrics, the answers, genai-prices."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import aiohttp
import grpc
import pytest
from aiohttp import web
from genai_prices import calc_price, extract_usage
from prometheus_client.parser import text_string_to_metric_families

from tests.fixtures.pictures import encode, stored
from visiongateway.v1 import call_pb2, image_pb2, vision_service_pb2 as pb

CALLS = 1000
AT_ONCE = 64
NANO = 10**9
LONG_CONTEXT = 272_000
IMAGES = [
    image_pb2.Image(data=(Path(__file__).parents[1] / "photos" / "coffee.png").read_bytes()),
    image_pb2.Image(data=encode(stored(), "PNG")),
    image_pb2.Image(data=encode(stored(6, width=320, height=200), "JPEG")),
    image_pb2.Image(data=encode(stored(width=900, height=100), "WEBP")),
]
TEAPOT = {"label": "teapot", "box_2d": [10, 20, 60, 80]}
# The first whose words stand in the question is what aimock answers.
ANSWERS = [
    ("brokenware", {"content": "It is over there."}),
    ("cut short", {"content": "It is o", "finishReason": "length"}),
    ("overloaded", {"error": {"message": "scripted", "type": "server_error"}, "status": 500}),
    ("teapot", {"content": json.dumps({"detections": [TEAPOT]})}),
    ("kettle", {"content": json.dumps({"labels": [{"label": "kettle"}]})}),
]
KINDS = [
    ("Caption", {}),
    ("OCR", {}),
    ("Detect", {"labels": ["teapot"]}),
    ("Classify", {"labels": ["kettle", "cup"]}),
    ("VQA", {"question": "What colour is it?"}),
    ("Detect", {"labels": ["brokenware"]}),
    ("VQA", {"question": "Is this cut short?"}),
    ("Caption", {}),
    ("OCR", {}),
    ("VQA", {"question": "Is it overloaded?"}),
    ("Classify", {"labels": ["kettle", "cup"]}),
]
EVERYTHING = {
    "cached tokens",
    "reasoning",
    "long context",
    "its very edge",
    "flex",
    "flex billed as default",
    "priority",
    "answers",
    "billed failures",
    "unbilled failures",
}


class RewriterStandIn:
    """Stands before aimock, which cannot tell details of usage or a tier: replaces these two in aimock's own answers.

    All of `usage`, its totals too, and `service_tier`; nothing else. Both follow from the number of the call, which
    ends the request id. It keeps what it *told*.
    """

    def __init__(self, session, target):
        self._session = session
        self._target = target
        self.requests = 0
        self.told = []
        self.asked_tiers = []

    async def forward(self, request):
        body = await request.read()
        self.requests += 1
        headers = {"content-type": "application/json", "authorization": request.headers["authorization"]}
        async with self._session.post(self._target + request.path, data=body, headers=headers) as response:
            answer = await response.json()
            if response.status == web.HTTPOk.status_code:
                number = int(request.headers["x-client-request-id"].rpartition("-")[2])
                asked = json.loads(body)["service_tier"]
                answer |= {"usage": usage(number), "service_tier": tier(number, asked)}
                self.told.append(answer)
                self.asked_tiers.append(asked)
            return web.json_response(answer, status=response.status)


def usage(number):
    read = LONG_CONTEXT + number % 3 * 7919 if number % 13 == 0 else 1200 + number * 37 % 5003
    written = 20 + number * 53 % 1009
    cached = number * 71 % read if number % 5 == 0 else 0
    reasoning = number * 29 % written if number % 3 == 0 else 0
    return {
        "input_tokens": read,
        "input_tokens_details": {"cached_tokens": cached},
        "output_tokens": written,
        "output_tokens_details": {"reasoning_tokens": reasoning},
        "total_tokens": read + written,
    }


def tier(number, asked):
    return "default" if asked == "flex" and number % 2 else asked


def listed_nano_usd(answer):
    """What genai-prices reads from an answer, and what it says that this costs."""
    read = extract_usage(answer, provider_id="openai", api_flavor="responses")
    price = calc_price(
        read.usage, "gpt-5.5", provider_id="openai", price_context={"service_tier": answer["service_tier"]}
    )
    nano = price.total_price * NANO
    assert nano == int(nano)
    return int(nano)


@pytest.fixture
async def rewriter(aimock):
    for words, response in ANSWERS:
        aimock.add({"match": {"userMessage": words}, "response": response})
    aimock.answer("A red box.")
    async with aiohttp.ClientSession() as session:
        stand_in = RewriterStandIn(session, aimock.url)
        application = web.Application(client_max_size=1 << 26)
        application.router.add_post("/v1/responses", stand_in.forward)
        runner = web.AppRunner(application)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0]
        stand_in.url = f"http://{host}:{port}"
        yield stand_in
        await runner.cleanup()


async def test_a_thousand_mixed_calls_cost_the_same_in_all_four_places(rewriter, start_gateway, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-test")
    model = {"kind": "openai", "base_url": f"{rewriter.url}/v1", "model": "gpt-5.5", "breaker": False}
    gateway = await start_gateway(
        ledger={"url": f"sqlite:///{tmp_path}/l.db"},
        models={"first": model, "second": model},
        routes={"default": ["first", "second"]},
        # However long images wait to be decoded, the line has room for all: who is turned away there asks no provider.
        images={"workers": AT_ONCE // 2},
    )
    slots = asyncio.Semaphore(AT_ONCE)

    async def call(number):
        rpc, fields = KINDS[number % len(KINDS)]
        options = call_pb2.CallOptions(
            service_tier=number // 4 % 4,
            image_detail=call_pb2.IMAGE_DETAIL_LOW,
            model="second" if number % 7 == 0 else "",
        )
        request = getattr(pb, f"{rpc}Request")(image=IMAGES[number % len(IMAGES)], options=options, **fields)
        async with slots:
            try:
                answer = await getattr(gateway.stub, rpc)(
                    request, timeout=60, metadata=[("x-request-id", f"mixed-{number}")]
                )
            except grpc.aio.AioRpcError as failure:
                return failure.code(), int(dict(failure.trailing_metadata())["x-vision-cost-nano-usd"])
        return grpc.StatusCode.OK, answer.info.cost_nano_usd

    ended = await asyncio.gather(*map(call, range(CALLS)))

    _, exposition = await gateway.get("/metrics")
    counted = [
        sample.value
        for family in text_string_to_metric_families(exposition)
        for sample in family.samples
        if sample.name == "vision_gateway_cost_usd_total"
    ]
    with closing(sqlite3.connect(tmp_path / "l.db")) as ledger:
        ((rows, written),) = ledger.execute("SELECT count(*), sum(cost_nano_usd) FROM vision_gateway_attempts")
    expected = sum(map(listed_nano_usd, rewriter.told))
    assert (rows, written) == (rewriter.requests, expected)
    assert sum(cost for _, cost in ended) == expected
    assert round(sum(counted) * NANO) == expected
    assert has(rewriter, ended) == EVERYTHING


def has(rewriter, ended):
    """What of the things that change a bill the run had in it, so that equal sums of an easier run do not pass."""
    told = [answer["usage"] for answer in rewriter.told]
    tiers = [answer["service_tier"] for answer in rewriter.told]
    failed = [cost for code, cost in ended if code != grpc.StatusCode.OK]
    found = {
        "cached tokens": any(usage["input_tokens_details"]["cached_tokens"] for usage in told),
        "reasoning": any(usage["output_tokens_details"]["reasoning_tokens"] for usage in told),
        "long context": any(usage["input_tokens"] > LONG_CONTEXT for usage in told),
        "its very edge": any(usage["input_tokens"] == LONG_CONTEXT for usage in told),
        "flex": "flex" in tiers,
        "flex billed as default": ("flex", "default") in zip(rewriter.asked_tiers, tiers, strict=True),
        "priority": "priority" in tiers,
        "answers": len(ended) > len(failed),
        "billed failures": any(failed),
        "unbilled failures": not all(failed),
    }
    return {name for name, there in found.items() if there}
