from __future__ import annotations

import gc
import weakref

import pytest
from grpc import StatusCode

from gateway import errors
from gateway.domain import Attempt, Outcome
from gateway.errors import GatewayError, InvalidField, InvalidImage, QuotaExceeded, Unauthenticated, Violation
from tests.fixtures.served_gateway import IMAGE, caption, failure_of
from visiongateway.v1 import call_pb2, image_pb2, vision_service_pb2 as pb

CANARY = "canary-6f1d"
NO_IMAGE = "there is no image, or it has no bytes: give its `data`, or the `digest` of one that you sent lately"


def _all(kind=GatewayError):
    return [kind, *(found for sub in kind.__subclasses__() for found in _all(sub))]


def _one(kind):
    if kind is InvalidField:
        return kind([Violation("labels[3]", "too long")])
    if kind is InvalidImage:
        return kind("has 41 megapixels; at most 40 are taken", limit="pixels", field="images[1]")
    if kind is Unauthenticated:
        return kind("the key is not known", cause="unknown_key")
    if issubclass(kind, QuotaExceeded):
        return kind("it cannot be done", subject="principal:anna", retry_after_s=1.5)
    return kind("it cannot be done", metadata={"limit": "some"}, retry_after_s=1.5)


def _raise(error):
    async def answer(*_):
        raise error

    return answer


@pytest.mark.parametrize("kind", [kind for kind in _all() if hasattr(kind, "reason")], ids=lambda kind: kind.__name__)
async def test_every_error_reaches_the_caller_with_its_code_and_one_error_info(served, kind):
    served.pipeline.answer = _raise(_one(kind))
    failure = await failure_of(served.stub.Caption(caption(), timeout=5))
    assert (failure.code, failure.reason, failure.info.domain) == (kind.code, kind.reason, "visiongateway")
    assert failure.status.code == kind.code.value[0]
    assert failure.status.message == failure.message
    assert served.calls("Caption", kind.code.name) == 1


@pytest.mark.parametrize("kind", _all(), ids=lambda kind: kind.__name__)
def test_no_error_is_unknown_or_cancelled(kind):
    assert kind is GatewayError or kind.code not in {StatusCode.UNKNOWN, StatusCode.CANCELLED, StatusCode.OK}


def test_unavailable_is_kept_for_what_another_try_may_mend():
    reasons = {kind.reason for kind in _all() if kind is not GatewayError and kind.code is StatusCode.UNAVAILABLE}
    assert reasons == {"OVERLOADED", "DRAINING", "BACKEND_UNAVAILABLE", "UPSTREAM_RATE_LIMITED", "STORE_UNAVAILABLE"}


async def test_an_image_that_the_pipeline_refuses_is_named(served):
    served.pipeline.answer = _raise(_one(InvalidImage))
    failure = await failure_of(served.stub.Caption(caption(), timeout=5))
    assert failure.violations == [("images[1]", "has 41 megapixels; at most 40 are taken")]
    assert dict(failure.info.metadata) == {"limit": "pixels", "field": "images[1]"}


async def test_when_to_come_back_is_told_to_people_and_to_the_library(served):
    served.pipeline.answer = _raise(errors.UpstreamRateLimited("busy", retry_after_s=1.5))
    failure = await failure_of(served.stub.Caption(caption(), timeout=5))
    assert failure.retry_after_s == 1.5
    assert failure.trailers["grpc-retry-pushback-ms"] == "1500"


async def test_a_library_is_told_not_to_retry_what_the_operator_must_mend(served):
    served.pipeline.answer = _raise(errors.UpstreamAccount("the account at the provider has no credit"))
    failure = await failure_of(served.stub.Caption(caption(), timeout=5))
    assert failure.trailers["grpc-retry-pushback-ms"] == "-1"


async def test_a_failed_call_tells_its_request_id_model_and_cost(served):
    async def answer(_, __, call):
        call.trace.attempts.append(Attempt("dear", Outcome.FAILED, "UNUSABLE_ANSWER", cost_nano_usd=12_000))
        call.trace.attempts.append(Attempt("down", Outcome.SKIPPED, "BACKEND_UNAVAILABLE"))
        raise errors.UnusableAnswer("the answer is not what was asked for")

    served.pipeline.answer = answer
    call = served.stub.Caption(caption(), timeout=5, metadata=(("x-request-id", "r-1"),))
    trailers = (await failure_of(call)).trailers
    told = {key: trailers[key] for key in ("x-request-id", "x-vision-model", "x-vision-cost-nano-usd")}
    assert told == {"x-request-id": "r-1", "x-vision-model": "dear", "x-vision-cost-nano-usd": "12000"}


async def test_of_a_bug_the_caller_gets_nothing_but_an_id(served):
    served.pipeline.answer = _raise(RuntimeError(CANARY))
    failure = await failure_of(served.stub.Caption(caption(), timeout=5))
    error_id = failure.info.metadata["error_id"]
    assert (failure.code, failure.reason) == (StatusCode.INTERNAL, "INTERNAL")
    assert failure.message == f"internal error {error_id}"
    assert CANARY not in str(failure)


async def test_of_a_bug_the_log_tells_where_it_is_under_the_same_id(served):
    async def answer(*_):
        try:
            {}[CANARY]
        except KeyError as exc:
            raise RuntimeError(CANARY) from exc

    served.pipeline.answer = answer
    failure = await failure_of(served.stub.Caption(caption(), timeout=5))
    [line] = served.lines("bug")
    assert line["error_id"] == failure.info.metadata["error_id"]
    assert [error["type"] for error in line["error"]] == ["builtins.RuntimeError", "builtins.KeyError"]
    assert "test_errors.py" in line["error"][0]["at"][-1]
    assert CANARY not in served.log.getvalue()


async def test_an_answer_that_cannot_be_written_is_a_bug_of_ours(served):
    async def answer(*_):
        return object()

    served.pipeline.answer = answer
    failure = await failure_of(served.stub.Caption(caption(), timeout=5))
    assert failure.code is StatusCode.INTERNAL


async def test_a_method_that_is_not_there_is_unimplemented_and_counted(served):
    call = served.channel.unary_unary("/visiongateway.v1.VisionService/Dream")
    failure = await failure_of(call(b"", timeout=5))
    assert (failure.code, failure.reason) == (StatusCode.UNIMPLEMENTED, "UNKNOWN_METHOD")
    assert served.calls("unknown", "UNIMPLEMENTED") == 1


async def test_a_service_that_is_not_there_is_unimplemented(served):
    failure = await failure_of(served.channel.unary_unary("/other.v1.Service/Method")(b"", timeout=5))
    assert failure.code is StatusCode.UNIMPLEMENTED


async def test_everything_wrong_is_told_at_once(served):
    served.tasks["VQA"].wrong = [Violation("question", "must have 1 to 8000 characters")]
    request = pb.VQARequest(
        images=[IMAGE, image_pb2.Image()],
        options=call_pb2.CallOptions(
            model="m",
            route="r",
            priority=17,
            max_cost_nano_usd=0,
            image_detail=-1,
            reasoning=5,
            max_output_tokens=15,
            temperature=float("nan"),
            seed=-1,
            cache=4,
            service_tier=4,
        ),
    )
    failure = await failure_of(served.stub.VQA(request, timeout=5))
    assert (failure.code, failure.reason) == (StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
    assert failure.violations == [
        ("image", NO_IMAGE),
        ("images[1]", NO_IMAGE),
        ("options.route", "must be unset when `model` is set"),
        ("options.priority", "has no value 17"),
        ("options.image_detail", "has no value -1"),
        ("options.reasoning", "has no value 5"),
        ("options.cache", "has no value 4"),
        ("options.service_tier", "has no value 4"),
        ("options.max_cost_nano_usd", "must be at least 1"),
        ("options.max_output_tokens", "must be in [16, 32768]"),
        ("options.temperature", "must be a number in [0, 2]"),
        ("options.seed", "must be at least 0"),
        ("question", "must have 1 to 8000 characters"),
    ]
    assert served.pipeline.calls == []


@pytest.mark.parametrize(
    "options",
    [
        {"max_output_tokens": 32_769},
        {"temperature": -0.01},
        {"temperature": 2.01},
        {"temperature": float("inf")},
    ],
    ids=str,
)
async def test_options_over_their_range_are_refused(served, options):
    failure = await failure_of(served.stub.Caption(caption(options=call_pb2.CallOptions(**options)), timeout=5))
    assert [field for field, _ in failure.violations] == [f"options.{name}" for name in options]


@pytest.mark.parametrize(
    "options",
    [
        {"max_output_tokens": 16, "temperature": 0, "seed": 0, "max_cost_nano_usd": 1},
        {"max_output_tokens": 32_768, "temperature": 2, "seed": 2**63 - 1, "max_cost_nano_usd": 2**63 - 1},
    ],
    ids=["least", "most"],
)
async def test_the_ends_of_each_range_are_taken(served, options):
    await served.stub.Caption(caption(options=call_pb2.CallOptions(**options)), timeout=5)
    [(_, _, call)] = served.pipeline.calls
    assert {name: getattr(call.options, name) for name in options} == options


@pytest.mark.parametrize(
    "image",
    [None, image_pb2.Image(), image_pb2.Image(data=b""), image_pb2.Image(url="")],
    ids=["unset", "empty", "no bytes", "no address"],
)
async def test_a_missing_image_alone_is_an_invalid_image(served, image):
    failure = await failure_of(served.stub.Caption(pb.CaptionRequest(image=image), timeout=5))
    assert (failure.code, failure.reason) == (StatusCode.INVALID_ARGUMENT, "INVALID_IMAGE")
    assert failure.info.metadata["limit"] == "missing"
    assert failure.violations == [("image", NO_IMAGE)]
    assert served.count("vision_gateway_images_rejected_total", limit="missing") == 1


async def test_all_missing_images_are_named(served):
    failure = await failure_of(served.stub.VQA(pb.VQARequest(images=[image_pb2.Image(), IMAGE]), timeout=5))
    assert failure.reason == "INVALID_IMAGE"
    assert [field for field, _ in failure.violations] == ["image", "images[0]"]


async def test_an_image_by_address_is_forbidden(served):
    image = image_pb2.Image(url="https://example.com/cat.jpg")
    failure = await failure_of(served.stub.Caption(caption(image=image), timeout=5))
    assert (failure.code, failure.reason) == (StatusCode.PERMISSION_DENIED, "URL_FORBIDDEN")
    assert failure.info.metadata["field"] == "image.url"


async def test_a_wrong_field_is_told_before_a_forbidden_address(served):
    image = image_pb2.Image(url="https://example.com/cat.jpg")
    request = caption(image=image, options=call_pb2.CallOptions(seed=-1))
    failure = await failure_of(served.stub.Caption(request, timeout=5))
    assert (failure.reason, failure.violations) == ("INVALID_FIELD", [("options.seed", "must be at least 0")])


async def test_a_status_stays_small_and_counts_what_it_leaves_out(served):
    served.tasks["Detect"].wrong = [Violation(f"labels[{i}]", "é" * 400) for i in range(500)]
    failure = await failure_of(served.stub.Detect(pb.DetectRequest(image=IMAGE), timeout=5))
    assert failure.status.ByteSize() <= 4096
    assert len(failure.message) <= 512
    assert len(failure.violations) + int(failure.info.metadata["violations_left_out"]) == 500
    assert len(failure.violations) > 5


async def test_a_long_message_and_long_metadata_are_cut(served):
    metadata = {f"key_{i}": "字" * 5000 for i in range(50)}
    served.pipeline.answer = _raise(errors.UnsupportedByModel("字" * 5000, metadata=metadata))
    failure = await failure_of(served.stub.Caption(caption(), timeout=5))
    assert failure.code is StatusCode.FAILED_PRECONDITION
    assert failure.message.startswith("字字")
    assert failure.message.endswith("字…")
    assert failure.status.ByteSize() <= 4096


async def test_text_that_has_no_utf8_is_told_all_the_same(served):
    served.pipeline.answer = _raise(errors.UnusableAnswer("odd: \ud800"))
    failure = await failure_of(served.stub.Caption(caption(), timeout=5))
    assert (failure.code, failure.message) == (StatusCode.INTERNAL, "odd: ?")


class StandInImage:
    """Stands in for what a call has in memory."""


async def test_the_images_of_a_failed_call_do_not_wait_for_the_collector(served):
    kept = []

    async def refuse(_, __, ___):
        image = StandInImage()
        kept.append(weakref.ref(image))
        raise errors.Refused("no")

    served.pipeline.answer = refuse
    gc.disable()
    try:
        await failure_of(served.stub.Caption(caption(), timeout=5))

        assert kept[0]() is None
    finally:
        gc.enable()
