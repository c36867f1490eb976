from __future__ import annotations

import base64
from dataclasses import replace

import openai.types.responses.response_create_params as params
import orjson
import pytest
from pydantic import TypeAdapter

from gateway.backends._openai_request import Body
from gateway.domain import ImagePlan, Prompt, Reasoning, SentImage, ServiceTier

REQUESTS = TypeAdapter(params.ResponseCreateParamsNonStreaming)
STREAMED = TypeAdapter(params.ResponseCreateParamsStreaming)
SCHEMA = {
    "type": "object",
    "properties": {"label": {"type": "string"}},
    "required": ["label"],
    "additionalProperties": False,
}
EVERYTHING = Prompt(
    rpc="Detect",
    user='Find "cats" \\ \0 äöü 猫.',
    system="You see well.",
    max_output_tokens=512,
    schema=SCHEMA,
    schema_name="detect",
    temperature=0.5,
    top_p=0.25,
    top_k=7,
    seed=3,
    service_tier=ServiceTier.FLEX,
)
PICTURE = SentImage(b"\xff\xd8 jpeg", "image/jpeg", ImagePlan(640, 480, token_count=360, budget="original"))


async def written(prompt, images=(PICTURE,), **how):
    body = Body(prompt, images, model="gpt-5.5", **how)
    sent = b"".join([piece async for piece in body])
    assert len(sent) == body.length
    return sent


async def document(prompt, images=(PICTURE,), **how):
    return orjson.loads(await written(prompt, images, **how))


def data_url(image):
    return f"data:{image.media_type};base64,{base64.b64encode(image.data).decode()}"


async def test_everything_that_is_set_is_said():
    assert await document(EVERYTHING) == {
        "model": "gpt-5.5",
        "instructions": "You see well.",
        "text": {"format": {"type": "json_schema", "name": "detect", "schema": SCHEMA, "strict": True}},
        "reasoning": {"effort": "none"},
        "max_output_tokens": 512,
        "service_tier": "flex",
        "store": False,
        "temperature": 0.5,
        "top_p": 0.25,
        "input": [
            {
                "role": "user",
                "content": [
                    {"type": "input_image", "detail": "original", "image_url": data_url(PICTURE)},
                    {"type": "input_text", "text": EVERYTHING.user},
                ],
            }
        ],
    }


async def test_what_is_not_set_is_not_said(prompt):
    assert sorted(await document(prompt)) == [
        "input",
        "max_output_tokens",
        "model",
        "reasoning",
        "service_tier",
        "store",
    ]


async def test_a_body_for_a_stream_says_no_more_than_that_and_that_it_wants_no_noise():
    streamed = await document(EVERYTHING, streaming=True)

    assert STREAMED.validate_python(streamed)["stream"] is True
    assert streamed == await document(EVERYTHING) | {"stream": True, "stream_options": {"include_obfuscation": False}}


async def test_what_stays_the_same_comes_before_the_image():
    assert list(await document(EVERYTHING)).index("input") == len(await document(EVERYTHING)) - 1


@pytest.mark.parametrize(
    "images", [(), (PICTURE,), (PICTURE, replace(PICTURE, data=b"second", media_type="image/png"))]
)
@pytest.mark.parametrize("tier", ServiceTier)
@pytest.mark.parametrize("reasoning", Reasoning)
@pytest.mark.parametrize("given", [EVERYTHING, Prompt(rpc="Caption", user="What?", max_output_tokens=16)])
async def test_every_body_is_one_that_the_sdk_would_send(given, reasoning, tier, images):
    body = await document(replace(given, reasoning=reasoning, service_tier=tier), images)

    REQUESTS.validate_python(body)


def test_the_sdks_own_types_would_find_a_wrong_body():
    with pytest.raises(ValueError, match="service_tier"):
        REQUESTS.validate_python({"service_tier": "cheap"})


@pytest.mark.parametrize("size", [0, 1, 2, 3, 4, 196_607, 196_608, 196_609, 600_001])
async def test_an_image_of_any_size_arrives_whole(prompt, size):
    image = replace(PICTURE, data=bytes(range(256)) * (size // 256) + bytes(size % 256))

    content = (await document(prompt, (image,)))["input"][0]["content"]

    assert content[0]["image_url"] == data_url(image)


async def test_images_come_in_the_callers_order_before_the_text(prompt):
    second = replace(PICTURE, data=b"second", media_type="image/png")

    content = (await document(prompt, (PICTURE, second)))["input"][0]["content"]

    assert [part.get("image_url", part.get("text")) for part in content] == [
        data_url(PICTURE),
        data_url(second),
        prompt.user,
    ]


async def test_detail_is_never_left_to_the_provider(prompt):
    plain = replace(PICTURE, plan=ImagePlan(1, 1, 1))

    assert (await document(prompt, (plain,)))["input"][0]["content"][0]["detail"] == "high"


@pytest.mark.parametrize("reasoning", [Reasoning.LOW, Reasoning.MEDIUM, Reasoning.HIGH])
async def test_a_model_that_reasons_is_sent_no_sampling(reasoning):
    body = await document(replace(EVERYTHING, reasoning=reasoning))

    assert (body["reasoning"], "temperature" in body, "top_p" in body) == ({"effort": reasoning.value}, False, False)


@pytest.mark.parametrize(
    ("tier", "word"),
    [(ServiceTier.STANDARD, "default"), (ServiceTier.FLEX, "flex"), (ServiceTier.PRIORITY, "priority")],
)
async def test_each_tier_has_the_providers_word(prompt, tier, word):
    assert (await document(replace(prompt, service_tier=tier)))["service_tier"] == word
