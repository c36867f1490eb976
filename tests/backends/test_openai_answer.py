from __future__ import annotations

from dataclasses import replace

import orjson
import pytest

from gateway.backends._openai_answer import completion
from gateway.backends._openai_errors import failure
from gateway.domain import Completion, ImagePlan, Prompt, SentImage, ServiceTier
from gateway.errors import (
    BackendUnavailable,
    GatewayError,
    InvalidImage,
    Refused,
    TruncatedAnswer,
    UnsupportedByModel,
    UnusableAnswer,
    UpstreamAccount,
    UpstreamAuth,
    UpstreamRateLimited,
)
from gateway.usage import Usage

PROMPT = Prompt(rpc="Caption", system="You see.", user="What is it?", max_output_tokens=256)
IMAGES = (SentImage(b"jpeg", "image/jpeg", ImagePlan(1024, 1024, token_count=1229, budget="high")),)
BILLED = Usage(input_text=71, input_image=1229, cached_input=100, output=98, reasoning=40)
ESTIMATED = Usage(input_text=5, input_image=1229, output=2)

ANSWER = {
    "id": "resp_1",
    "object": "response",
    "status": "completed",
    "model": "gpt-5.5-2026-04-23",
    "service_tier": "default",
    "error": None,
    "incomplete_details": None,
    "output": [
        {"type": "reasoning", "id": "rs_1", "summary": []},
        {
            "type": "message",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "a cat", "annotations": []}],
        },
    ],
    "usage": {
        "input_tokens": 1400,
        "input_tokens_details": {"cached_tokens": 100},
        "output_tokens": 138,
        "output_tokens_details": {"reasoning_tokens": 40},
        "total_tokens": 1538,
    },
}


def read(prompt=PROMPT, **changed):
    return completion(orjson.dumps({**ANSWER, **changed}), prompt, IMAGES, model="gpt-5.5")


def raised(content=None, **changed):
    with pytest.raises(GatewayError) as caught:
        read(**changed) if content is None else completion(content, PROMPT, IMAGES, model="gpt-5.5")
    return caught.value


def message(*parts):
    return [{"type": "message", "role": "assistant", "content": list(parts)}]


def text(words):
    return {"type": "output_text", "text": words}


def test_a_whole_answer_is_billed_bucket_by_bucket():
    assert read() == Completion("a cat", BILLED, provider_model="gpt-5.5-2026-04-23")


def test_text_in_several_parts_and_messages_is_one_answer():
    assert read(output=message(text("a "), text("c")) + message(text("at"))).text == "a cat"


@pytest.mark.parametrize(
    ("told", "billed"),
    [
        ("default", ServiceTier.STANDARD),
        ("scale", ServiceTier.STANDARD),
        ("flex", ServiceTier.FLEX),
        ("priority", ServiceTier.PRIORITY),
        ("fast", ServiceTier.PRIORITY),
        ("ultrafast", ServiceTier.PRIORITY),
    ],
)
def test_the_tier_that_came_back_is_the_one_billed(told, billed):
    asked = next(tier for tier in ServiceTier if tier is not billed)

    assert read(replace(PROMPT, service_tier=asked), service_tier=told).service_tier is billed


@pytest.mark.parametrize("told", [None, "auto", "unheard-of", 7])
def test_where_no_known_tier_came_back_the_one_asked_for_is_billed(told):
    assert read(replace(PROMPT, service_tier=ServiceTier.FLEX), service_tier=told).service_tier is ServiceTier.FLEX


@pytest.mark.parametrize("usage", [None, {}, {"input_tokens": 1400}, {"input_tokens": "many", "output_tokens": -1}, 5])
def test_without_usage_it_is_estimated_and_says_so(usage):
    answer = read(usage=usage)

    assert (answer.usage, answer.estimated) == (ESTIMATED, True)


def test_a_usage_without_details_has_nothing_cached_and_nothing_reasoned():
    answer = read(usage={"input_tokens": 1400, "output_tokens": 138})

    assert (answer.usage, answer.estimated) == (Usage(input_text=171, input_image=1229, output=138), False)


@pytest.mark.parametrize("model", [None, "", 5])
def test_a_server_that_names_no_model_serves_the_one_asked_for(model):
    assert read(model=model).provider_model == "gpt-5.5"


def test_an_answer_without_a_status_counts_by_its_text():
    bare = orjson.dumps({"output": message(text("a cat"))})

    assert completion(bare, PROMPT, IMAGES, model="m") == Completion("a cat", ESTIMATED, "m", estimated=True)


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}, TruncatedAnswer),
        ({"status": "incomplete", "incomplete_details": None}, TruncatedAnswer),
        ({"status": "incomplete", "incomplete_details": {"reason": "steered"}, "output": []}, TruncatedAnswer),
        ({"status": "incomplete", "incomplete_details": {"reason": "content_filter"}}, Refused),
        ({"output": message({"type": "refusal", "refusal": "I cannot help with that."})}, Refused),
        ({"output": message(text("Well. "), {"type": "refusal", "refusal": "No."})}, Refused),
        ({"status": "failed", "error": {"code": "image_content_policy_violation", "message": "no"}}, Refused),
        ({"status": "failed", "error": {"code": "server_error", "message": "no"}}, BackendUnavailable),
        ({"status": "failed", "error": {"code": "rate_limit_exceeded", "message": "no"}}, UpstreamRateLimited),
        ({"status": "failed", "error": {"code": "image_parse_error", "message": "no"}}, InvalidImage),
        ({"status": "failed", "error": {"code": "unheard_of", "message": "no"}}, BackendUnavailable),
        ({"status": "failed", "error": {"code": ["odd"]}}, BackendUnavailable),
        ({"status": "failed", "error": None}, BackendUnavailable),
        ({"status": "cancelled"}, BackendUnavailable),
        ({"status": "in_progress"}, BackendUnavailable),
        ({"output": []}, UnusableAnswer),
        ({"output": message(text(""))}, UnusableAnswer),
        (
            {"output": [{"type": "function_call", "name": "x"}, None, {"type": "message", "content": "odd"}]},
            UnusableAnswer,
        ),
        ({"output": None}, UnusableAnswer),
    ],
)
def test_an_answer_that_is_none_is_the_right_error_with_its_bill(changed, expected):
    error = raised(**changed)

    assert (type(error), error.usage, error.service_tier) == (expected, BILLED, "standard")


@pytest.mark.parametrize("content", [b"", b"<html>504</html>", b'{"status": "comp', b"\xff\xfe", b"[]", b"null"])
def test_a_body_that_is_no_response_is_unusable_and_estimated(content):
    error = raised(content)

    assert (type(error), error.usage, error.estimated) == (UnusableAnswer, replace(ESTIMATED, output=0), True)


def test_a_failure_without_usage_was_not_billed():
    assert raised(status="failed", error={"code": "server_error"}, usage=None).usage is None


def test_a_refusal_without_usage_is_estimated():
    refusal = message({"type": "refusal", "refusal": "No."})

    assert raised(output=refusal, usage=None).usage == replace(ESTIMATED, output=0)


def test_what_the_provider_says_goes_no_further():
    secret = "sk-abc123"  # noqa: S105  made up

    assert secret not in repr(raised(status="failed", error={"code": "server_error", "message": secret}))
    assert secret not in repr(raised(output=message({"type": "refusal", "refusal": secret})))


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (400, "invalid_request_error", UnsupportedByModel),
        (400, "unsupported_parameter", UnsupportedByModel),
        (400, "context_length_exceeded", UnsupportedByModel),
        (400, "content_policy_violation", Refused),
        (400, "content_filter", Refused),
        (400, "invalid_prompt", Refused),
        (401, "invalid_api_key", UpstreamAuth),
        (402, "", UpstreamAccount),
        (403, "unsupported_country_region_territory", UpstreamAuth),
        (404, "model_not_found", BackendUnavailable),
        (404, "", BackendUnavailable),
        (408, "", BackendUnavailable),
        (409, "", BackendUnavailable),
        (413, "", UnsupportedByModel),
        (422, "", UnsupportedByModel),
        (429, "", UpstreamRateLimited),
        (429, "rate_limit_exceeded", UpstreamRateLimited),
        (429, "resource_unavailable", UpstreamRateLimited),
        (429, "insufficient_quota", UpstreamAccount),
        (429, "billing_hard_limit_reached", UpstreamAccount),
        (403, "billing_not_active", UpstreamAccount),
        (302, "", BackendUnavailable),
        (500, "server_error", BackendUnavailable),
        (502, "", BackendUnavailable),
        (503, "slow_down", BackendUnavailable),
        (529, "", BackendUnavailable),
    ],
)
def test_each_status_and_code_has_its_error(status, code, expected):
    assert type(failure(status, code, {}).error) is expected


@pytest.mark.parametrize(
    ("code", "limit"),
    [
        ("invalid_image", "decode"),
        ("image_parse_error", "decode"),
        ("invalid_base64_image", "decode"),
        ("invalid_image_url", "decode"),
        ("failed_to_download_image", "decode"),
        ("image_file_not_found", "decode"),
        ("invalid_image_format", "format"),
        ("unsupported_image_media_type", "format"),
        ("invalid_image_mode", "format"),
        ("image_too_large", "pixels"),
        ("image_too_small", "side"),
        ("image_file_too_large", "bytes"),
        ("empty_image_file", "empty"),
    ],
)
@pytest.mark.parametrize("status", [200, 400])
def test_each_complaint_about_an_image_names_its_limit(status, code, limit):
    error = failure(status, code, {}).error

    assert (type(error), error.metadata["limit"]) == (InvalidImage, limit)


def test_every_code_about_an_image_that_the_sdk_knows_is_in_the_table():
    from openai.types.responses.response_error import ResponseError  # noqa: PLC0415  only this test needs the SDK

    codes = [code for code in ResponseError.model_fields["code"].annotation.__args__ if "image" in code]

    kinds = {code: type(failure(400, code, {}).error) for code in codes}
    assert kinds == {code: Refused if code == "image_content_policy_violation" else InvalidImage for code in codes}


@pytest.mark.parametrize(
    ("status", "code"), [(401, ""), (403, ""), (402, ""), (404, "model_not_found"), (429, "insufficient_quota")]
)
def test_what_only_the_operator_can_mend_blocks_the_model_and_has_a_hint(status, code):
    failed = failure(status, code, {})

    assert (failed.blocks, bool(failed.hint)) == (True, True)


@pytest.mark.parametrize(("status", "code"), [(400, ""), (429, ""), (500, ""), (400, "image_parse_error")])
def test_what_other_calls_need_not_meet_blocks_nothing(status, code):
    assert not failure(status, code, {}).blocks


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "1500", "retry-after": "7"}, 1.5),
        ({"retry-after": "Thu, 01 Jan 1970 00:01:40 GMT"}, 10.0),
        ({"retry-after": "Thu, 01 Jan 1970 00:00:40 GMT"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({}, None),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
def test_the_provider_says_when_to_try_again(status, headers, seconds):
    assert failure(status, "", headers, now=lambda: 90.0).error.retry_after_s == seconds
