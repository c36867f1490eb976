"""Both clients say what the caller said, over a real connection."""

from __future__ import annotations

import asyncio
import inspect
import re
from decimal import Decimal
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict

from visiongateway import AsyncVisionClient, VisionClient
from visiongateway.v1 import vision_service_pb2 as pb

IMAGE = b"\xff\xd8image"
IMAGE_JSON = {"data": "/9hpbWFnZQ=="}

CALLS = [
    ("caption", (), {}, "Caption", {"detail": "CAPTION_DETAIL_NORMAL"}),
    (
        "caption",
        (),
        {"detail": "long", "language": "de"},
        "Caption",
        {"detail": "CAPTION_DETAIL_LONG", "language": "de"},
    ),
    (
        "caption",
        (),
        {"detail": pb.CAPTION_DETAIL_SHORT},
        "Caption",
        {"detail": "CAPTION_DETAIL_SHORT"},
    ),
    ("ocr", (), {}, "OCR", {}),
    (
        "ocr",
        (),
        {"with_regions": True, "languages": ["de", "en"]},
        "OCR",
        {"with_regions": True, "languages": ["de", "en"]},
    ),
    ("detect", (), {}, "Detect", {}),
    (
        "detect",
        (["cat", "dog"],),
        {"prompt": "on the sofa", "max_detections": 3},
        "Detect",
        {"labels": ["cat", "dog"], "prompt": "on the sofa", "max_detections": 3},
    ),
    ("classify", (), {}, "Classify", {}),
    (
        "classify",
        (("a", "b"),),
        {"multi_label": True, "max_labels": 2},
        "Classify",
        {"labels": ["a", "b"], "multi_label": True, "max_labels": 2},
    ),
    ("vqa", ("How many?",), {}, "VQA", {"question": "How many?"}),
    (
        "vqa",
        ("Which?",),
        {"images": [IMAGE, IMAGE], "answer_schema": {"type": "object", "required": ["n"]}},
        "VQA",
        {
            "question": "Which?",
            "images": [IMAGE_JSON, IMAGE_JSON],
            "answer_schema": {"type": "object", "required": ["n"]},
        },
    ),
    ("prompt", ("Describe it.",), {}, "Prompt", {"prompt": "Describe it."}),
    (
        "prompt",
        ("Which?",),
        {"system": "Be terse.", "images": [IMAGE], "response_schema": {"type": "object"}},
        "Prompt",
        {
            "prompt": "Which?",
            "system": "Be terse.",
            "images": [IMAGE_JSON],
            "response_schema": {"type": "object"},
        },
    ),
]


def call_sync(address: str, method: str, *arguments: Any, **keywords: Any) -> Any:
    with VisionClient(address) as client:
        return getattr(client, method)(*arguments, **keywords)


def call_async(address: str, method: str, *arguments: Any, **keywords: Any) -> Any:
    async def call() -> Any:
        async with AsyncVisionClient(address) as client:
            return await getattr(client, method)(*arguments, **keywords)

    return asyncio.run(call())


TWINS = pytest.mark.parametrize("call", [call_sync, call_async], ids=["sync", "async"])


@TWINS
@pytest.mark.parametrize(("method", "arguments", "keywords", "rpc", "expected"), CALLS)
def test_every_argument_reaches_its_field(scripted_gateway, call, method, arguments, keywords, rpc, expected):
    call(scripted_gateway.address, method, IMAGE, *arguments, **keywords)

    (attempt,) = scripted_gateway.attempts
    sent = MessageToDict(attempt.request, preserving_proto_field_name=True)
    assert (attempt.rpc, sent) == (rpc, {"image": IMAGE_JSON, "options": {}} | expected)


@TWINS
def test_the_generated_response_comes_back_typed(scripted_gateway, call):
    answer = pb.CaptionResponse(text="a cat")
    scripted_gateway.script("Caption", answer)

    assert call(scripted_gateway.address, "caption", IMAGE) == answer


@TWINS
@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ({"model": "gpt-5.5"}, {"model": "gpt-5.5"}),
        ({"route": "fast"}, {"route": "fast"}),
        ({"priority": "cost"}, {"priority": "PRIORITY_COST"}),
        ({"priority": 1}, {"priority": "PRIORITY_QUALITY"}),
        ({"max_cost_nano_usd": 7}, {"max_cost_nano_usd": "7"}),
        ({"max_cost_usd": 0.1}, {"max_cost_nano_usd": "100000000"}),
        ({"max_cost_usd": Decimal("0.0000000019")}, {"max_cost_nano_usd": "1"}),
        ({"image_detail": "low"}, {"image_detail": "IMAGE_DETAIL_LOW"}),
        ({"reasoning": "high"}, {"reasoning": "REASONING_HIGH"}),
        ({"max_output_tokens": 64}, {"max_output_tokens": 64}),
        ({"temperature": 0.0}, {"temperature": 0.0}),
        ({"seed": 0}, {"seed": "0"}),
        ({"allow_fallback": False}, {"allow_fallback": False}),
        ({"cache": "bypass"}, {"cache": "CACHE_POLICY_BYPASS"}),
        ({"local_only": True}, {"local_only": True}),
        ({"service_tier": "flex"}, {"service_tier": "SERVICE_TIER_FLEX"}),
        ({"model": None, "max_cost_usd": None, "seed": None}, {}),
    ],
)
def test_every_option_reaches_its_field(scripted_gateway, call, option, expected):
    call(scripted_gateway.address, "detect", IMAGE, **option)

    assert MessageToDict(scripted_gateway.attempts[0].request.options, preserving_proto_field_name=True) == expected


@TWINS
@pytest.mark.parametrize(
    ("keywords", "kind", "message"),
    [
        ({"image_detail": "tiny"}, ValueError, "image_detail is one of low, medium, high, max; not 'tiny'"),
        ({"max_cost_usd": 1, "max_cost_nano_usd": 1}, ValueError, "give max_cost_usd or max_cost_nano_usd, not both"),
        ({"modle": "x"}, TypeError, "unknown option modle; there are allow_fallback, cache, .*"),
        ({"labels": "cat"}, TypeError, r"labels is several words, such as \['cat'\], not one"),
    ],
)
def test_wrong_arguments_are_told_before_anything_is_sent(scripted_gateway, call, keywords, kind, message):
    with pytest.raises(kind, match=message):
        call(scripted_gateway.address, "detect", IMAGE, **keywords)

    assert scripted_gateway.attempts == []


@TWINS
def test_a_call_has_a_deadline_of_a_minute_unless_it_says_otherwise(scripted_gateway, call):
    call(scripted_gateway.address, "detect", IMAGE)
    call(scripted_gateway.address, "detect", IMAGE, timeout=20)

    assert [attempt.time_left for attempt in scripted_gateway.attempts] == pytest.approx([60, 20], abs=5)


@TWINS
def test_the_callers_request_id_is_sent(scripted_gateway, call):
    call(scripted_gateway.address, "detect", IMAGE, request_id="order-7")

    assert scripted_gateway.attempts[0].metadata["x-request-id"] == "order-7"


@TWINS
def test_each_call_gets_its_own_request_id(scripted_gateway, call):
    call(scripted_gateway.address, "detect", IMAGE)
    call(scripted_gateway.address, "detect", IMAGE)

    assert len({attempt.metadata["x-request-id"] for attempt in scripted_gateway.attempts}) == 2


def test_the_clients_metadata_goes_with_every_call(scripted_gateway):
    with VisionClient(scripted_gateway.address, metadata={"authorization": "Bearer key"}) as client:
        client.caption(IMAGE)

    assert scripted_gateway.attempts[0].metadata["authorization"] == "Bearer key"


def test_a_token_goes_with_every_call_and_a_function_is_asked_each_time(scripted_gateway):
    key, renewed = "key", iter(["one", "two"])
    with VisionClient(scripted_gateway.address, token=key) as fixed:
        fixed.caption(IMAGE)
    with VisionClient(scripted_gateway.address, token=lambda: next(renewed)) as client:
        client.caption(IMAGE)
        client.caption(IMAGE)

    sent = [attempt.metadata["authorization"] for attempt in scripted_gateway.attempts]
    assert sent == ["Bearer key", "Bearer one", "Bearer two"]


@pytest.mark.parametrize("client", [VisionClient, AsyncVisionClient])
async def test_a_credential_that_is_there_twice_is_refused(client):
    key = "key"
    with pytest.raises(ValueError, match="not both"):
        client("127.0.0.1:1", token=key, metadata={"authorization": "Bearer b"})


PUBLIC = sorted(name for name in dir(VisionClient) if not name.startswith("_"))


@pytest.mark.parametrize("name", [*PUBLIC, "__init__"])
def test_the_twins_take_the_same_arguments_and_give_the_same(name):
    twins = [inspect.signature(getattr(kind, name)) for kind in (VisionClient, AsyncVisionClient)]

    assert twins[0].parameters == twins[1].parameters
    assert twins[0].return_annotation == twins[1].return_annotation.removeprefix("Async")


def test_there_is_a_method_for_every_rpc_of_the_contract():
    words = "Stream|List|Models|[A-Z]+(?![a-z])|[A-Z][a-z]+"
    rpcs = {
        "_".join(re.findall(words, method.name)).lower()
        for method in pb.DESCRIPTOR.services_by_name["VisionService"].methods
    }

    assert set(PUBLIC) == rpcs | {"close"}


@TWINS
@pytest.mark.parametrize(("name", "positional", "keywords", "expected"), [(*one[:3], one[4]) for one in CALLS])
def test_a_quote_takes_what_the_call_takes(scripted_gateway, call, name, positional, keywords, expected):
    first = {"detect": "labels", "classify": "labels", "vqa": "question", "prompt": "prompt"}.get(name)
    named = dict.fromkeys([first], *positional) if positional else {}

    call(scripted_gateway.address, "quote", name, IMAGE, **named, **keywords, seed=3)

    (attempt,) = scripted_gateway.attempts
    sent = MessageToDict(attempt.request, preserving_proto_field_name=True)
    assert (attempt.rpc, sent) == ("Quote", {name: {"image": IMAGE_JSON, "options": {"seed": "3"}, **expected}})


@TWINS
def test_a_quote_of_a_task_that_is_none_is_told_before_anything_is_sent(scripted_gateway, call):
    with pytest.raises(ValueError, match="task is one of caption, ocr, detect, classify, vqa, prompt; not 'translate'"):
        call(scripted_gateway.address, "quote", "translate", IMAGE)

    assert scripted_gateway.attempts == []
