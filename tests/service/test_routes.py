"""Routes through the whole gateway, before models that are scripted."""

from __future__ import annotations

import asyncio

import pytest
from grpc import StatusCode

from tests.fixtures.served_gateway import failure_of
from visiongateway.v1 import call_pb2, image_pb2, vision_service_pb2 as pb


def scripted(**options):
    return {"kind": "fake", "profile": "gemma4", "answer": "A cat.", "price": "free", **options}


def priced(usd, **options):
    return scripted(price={"input": usd, "output": usd}, **options)


@pytest.fixture
def caption(chelsea):
    def make(**options):
        return pb.CaptionRequest(image=image_pb2.Image(data=chelsea), options=call_pb2.CallOptions(**options))

    return make


def attempts(info):
    return [(each.model, call_pb2.AttemptOutcome.Name(each.outcome)[16:], each.reason) for each in info.attempts]


MODELS = {
    "cheap": priced("1", quality={"overall": 0.6, "counting": 0.1}),
    "dear": priced("9", quality={"overall": 0.65, "counting": 0.5}),
}
ROUTES = {
    "listed": {"models": ["dear", "cheap"]},
    "canary": {"models": ["cheap", "dear"], "choose": "weights", "weights": {"dear": 1}},
    "thrifty": {"models": ["dear", "cheap"], "choose": "cheapest"},
    "good": {"models": ["cheap", "dear"], "choose": "quality", "tolerance": 0.1},
}


@pytest.mark.parametrize(
    ("options", "order", "reason"),
    [
        ({}, ["cheap", "dear"], "route:default"),
        ({"route": "listed"}, ["dear", "cheap"], "route:listed"),
        ({"route": "canary"}, ["dear", "cheap"], "route:canary,weights"),
        ({"route": "thrifty"}, ["cheap", "dear"], "route:thrifty,cheapest"),
        ({"route": "good"}, ["cheap", "dear"], "route:good,quality"),
        ({"route": "good", "category": "counting"}, ["dear", "cheap"], "route:good,quality"),
        ({"route": "good", "priority": "PRIORITY_QUALITY"}, ["dear", "cheap"], "route:good,priority:quality"),
        ({"route": "listed", "priority": "PRIORITY_COST"}, ["cheap", "dear"], "route:listed,priority:cost"),
    ],
)
async def test_a_route_chooses_as_it_is_set_and_a_quote_shows_the_order(start_gateway, caption, options, order, reason):
    gateway = await start_gateway(models=MODELS, routes=ROUTES)
    request = caption(**options)

    quoted = await gateway.stub.Quote(pb.QuoteRequest(caption=request), timeout=10)
    info = (await gateway.stub.Caption(request, timeout=10)).info

    assert [candidate.model for candidate in quoted.candidates] == order
    assert (info.model, info.route_reason) == (order[0], reason)


async def test_the_next_model_of_a_canary_answers_when_the_drawn_one_fails(start_gateway, caption):
    models = MODELS | {"dear": priced("9", outcomes=["UNUSABLE_ANSWER"])}
    gateway = await start_gateway(models=models, routes=ROUTES)

    info = (await gateway.stub.Caption(caption(route="canary"), timeout=10)).info

    assert attempts(info) == [("dear", "FAILED", "UNUSABLE_ANSWER"), ("cheap", "OK", "")]


async def test_the_fastest_is_found_from_the_models_own_answers(start_gateway, caption):
    gateway = await start_gateway(
        models={"slow": scripted(delay_s=0.2), "quick": scripted()},
        routes={"quick": {"models": ["slow", "quick"], "choose": "fastest"}},
    )
    # Without fallback, chance has no part in it.
    wish = {"route": "quick", "allow_fallback": False}

    before = (await gateway.stub.Caption(caption(**wish), timeout=10)).info
    await asyncio.gather(
        *(gateway.stub.Caption(caption(model=name), timeout=10) for name in ("slow", "quick") for _ in range(5))
    )
    after = (await gateway.stub.Caption(caption(**wish), timeout=10)).info

    assert [(info.model, info.route_reason) for info in (before, after)] == [
        ("slow", "route:quick,fastest"),
        ("quick", "route:quick,fastest"),
    ]


async def test_a_model_is_not_asked_for_an_rpc_that_is_not_among_its_tasks(start_gateway, caption):
    gateway = await start_gateway(models={"reader": scripted(tasks=["OCR"]), "any": scripted()})

    info = (await gateway.stub.Caption(caption(), timeout=10)).info
    quoted = await gateway.stub.Quote(pb.QuoteRequest(caption=caption()), timeout=10)
    failure = await failure_of(gateway.stub.Caption(caption(model="reader"), timeout=10))

    assert attempts(info) == [("reader", "SKIPPED", "UNSUPPORTED_BY_MODEL"), ("any", "OK", "")]
    assert [(each.model, each.skip_reason) for each in quoted.candidates] == [
        ("any", ""),
        ("reader", "UNSUPPORTED_BY_MODEL"),
    ]
    assert (failure.code, failure.reason) == (StatusCode.FAILED_PRECONDITION, "UNSUPPORTED_BY_MODEL")
    assert failure.message == "reader is not asked for Caption, only for OCR"


async def test_more_images_than_a_model_takes_are_sent_to_one_that_takes_them(start_gateway, chelsea):
    models = {"one": scripted(profile="embedded"), "reader": scripted(tasks=["OCR"]), "many": scripted()}
    gateway = await start_gateway(models=models, routes={"few": ["one", "reader"]})
    image = image_pb2.Image(data=chelsea)
    request = pb.VQARequest(image=image, images=[image], question="What differs?")

    info = (await gateway.stub.VQA(request, timeout=10)).info
    request.options.route = "few"
    failure = await failure_of(gateway.stub.VQA(request, timeout=10))

    assert attempts(info) == [
        ("one", "SKIPPED", "UNSUPPORTED_BY_MODEL"),
        ("reader", "SKIPPED", "UNSUPPORTED_BY_MODEL"),
        ("many", "OK", ""),
    ]
    assert (failure.code, failure.reason) == (StatusCode.FAILED_PRECONDITION, "UNSUPPORTED_BY_MODEL")
    assert failure.message == (
        "no model can do this call: one takes at most 1 image(s); 2 were sent; "
        "reader is not asked for VQA, only for OCR"
    )


async def test_a_paused_model_is_asked_last_by_a_route_that_chooses(start_gateway, caption):
    models = {
        "cheap": priced("1", outcomes=["BACKEND_UNAVAILABLE"] * 2, breaker={"failures": 1, "open_s": 60}, retry=False),
        "dear": priced("9"),
    }
    gateway = await start_gateway(
        models=models, routes={"default": {"models": ["cheap", "dear"], "choose": "cheapest"}}
    )

    first = (await gateway.stub.Caption(caption(), timeout=10)).info
    second = (await gateway.stub.Caption(caption(), timeout=10)).info

    assert attempts(first) == [("cheap", "FAILED", "BACKEND_UNAVAILABLE"), ("dear", "OK", "")]
    assert attempts(second) == [("dear", "OK", "")]


async def test_a_model_that_was_seen_not_ready_is_asked_last_by_a_route_that_chooses(start_gateway, caption):
    models = {"cheap": priced("1", ready=False), "dear": priced("9")}
    gateway = await start_gateway(
        models=models, routes={"default": {"models": ["cheap", "dear"], "choose": "cheapest"}}
    )

    info = (await gateway.stub.Caption(caption(), timeout=10)).info
    quoted = await gateway.stub.Quote(pb.QuoteRequest(caption=caption()), timeout=10)

    assert attempts(info) == [("dear", "OK", "")]
    assert [candidate.model for candidate in quoted.candidates] == ["dear", "cheap"]


async def test_a_model_that_was_seen_not_ready_passes_until_nobody_else_is_left(start_gateway, caption):
    models = {"down": scripted(ready=False), "well": scripted(outcomes=["OK", "UNUSABLE_ANSWER"])}
    gateway = await start_gateway(models=models)

    infos = [(await gateway.stub.Caption(caption(), timeout=10)).info for _ in range(2)]
    quoted = await gateway.stub.Quote(pb.QuoteRequest(caption=caption()), timeout=10)

    passed = ("down", "SKIPPED", "BACKEND_UNAVAILABLE")
    assert attempts(infos[0]) == [passed, ("well", "OK", "")]
    assert attempts(infos[1]) == [passed, ("well", "FAILED", "UNUSABLE_ANSWER"), ("down", "OK", "")]
    assert [(each.model, each.skip_reason) for each in quoted.candidates] == [
        ("down", "BACKEND_UNAVAILABLE"),
        ("well", ""),
    ]
