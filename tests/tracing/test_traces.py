"""One trace a call, as a collector that others wrote takes it from whole gateways with scripted models."""

from __future__ import annotations

import asyncio
import io

import pytest
from PIL import Image

from tests.fixtures.otlp import tree
from tests.fixtures.served_gateway import failure_of
from visiongateway.v1 import call_pb2, image_pb2, vision_service_pb2 as pb

CALL = "visiongateway.v1.VisionService/Caption"
GEMMA, BIG = "generate_content gemma", "generate_content big"


def model(**options):
    price = {"input": "1", "output": "2"}
    return {"kind": "fake", "profile": "gemma4", "price": price, "answer": "A cat.", "retry": False, **options}


def image():
    out = io.BytesIO()
    Image.new("RGB", (64, 48), "teal").save(out, "PNG")
    return image_pb2.Image(data=out.getvalue())


def request(**options):
    return pb.CaptionRequest(image=image(), options=options)


@pytest.fixture
def start(start_gateway, traces):
    """Starts gateways whose traces are collected."""

    async def starting(models, tracing=(), **tables):
        return await start_gateway(
            models=models, tracing={"endpoint": traces.endpoint, **dict(tracing)}, images={"workers": 1}, **tables
        )

    return starting


def named(spans, name):
    return next(span for span in spans if span.name == name)


async def test_a_call_is_one_trace_with_a_span_for_each_part_of_its_work(start, traces):
    gateway = await start({"gemma": model()})
    await gateway.stub.Caption(request())
    spans = await traces.whole(CALL)

    assert tree(spans) == [[CALL, ["receive"], ["attempt gemma", ["image"], [GEMMA]]]]
    assert len({span.trace_id for span in spans}) == 1


async def test_the_call_says_how_it_went_and_the_model_what_it_used(start, traces):
    gateway = await start({"gemma": model()})
    response = await gateway.stub.Caption(request(seed=7), metadata=(("x-request-id", "r-7"),))
    spans = await traces.whole(CALL)

    call, asked = named(spans, CALL), named(spans, GEMMA)
    usage = response.info.usage
    assert (call.kind, call.status, call.resource["service.name"]) == ("SERVER", "UNSET", "vision-gateway")
    assert call.attributes == {
        "rpc.system": "grpc",
        "rpc.system.name": "grpc",
        "rpc.method": CALL,
        "rpc.response.status_code": "OK",
        "vision_gateway.request_id": "r-7",
        "vision_gateway.principal": "anonymous",
        "vision_gateway.model": "gemma",
        "vision_gateway.cost_nano_usd": response.info.cost_nano_usd,
        "vision_gateway.route_reason": "route:default",
        "vision_gateway.request_bytes": request(seed=7).ByteSize(),
    }
    assert (asked.kind, asked.status) == ("CLIENT", "UNSET")
    assert asked.attributes == {
        "gen_ai.operation.name": "generate_content",
        "gen_ai.provider.name": "fake",
        "gen_ai.request.model": "gemma",
        "gen_ai.request.max_tokens": asked.attributes["gen_ai.request.max_tokens"],
        # As the family wants it.
        "gen_ai.request.temperature": 1.0,
        "gen_ai.request.top_p": 0.95,
        "gen_ai.request.top_k": 64,
        "gen_ai.request.seed": 7,
        "gen_ai.request.stream": False,
        "gen_ai.output.type": "text",
        "gen_ai.response.model": "scripted",
        "gen_ai.usage.input_tokens": usage.input_text_token_count + usage.input_image_token_count,
        "gen_ai.usage.output_tokens": usage.output_token_count,
        "gen_ai.usage.cache_read.input_tokens": 0,
        "gen_ai.usage.reasoning.output_tokens": 0,
        "vision_gateway.rpc": "Caption",
    }


async def test_who_answers_for_a_model_that_failed_stands_beside_its_attempt(start, traces):
    gateway = await start({"gemma": model(outcomes=("BACKEND_UNAVAILABLE",)), "big": model()})
    await gateway.stub.Caption(request())
    spans = await traces.whole(CALL)

    failed, given = named(spans, "attempt gemma"), named(spans, "attempt big")
    assert tree(spans) == [
        [CALL, ["receive"], ["attempt gemma", ["image"], [GEMMA]], ["attempt big", ["image"], [BIG]]],
    ]
    assert (failed.status, failed.attributes["error.type"]) == ("ERROR", "BACKEND_UNAVAILABLE")
    assert failed.attributes["vision_gateway.outcome"] == "failed"
    assert (given.status, given.attributes["vision_gateway.outcome"]) == ("UNSET", "ok")
    assert (named(spans, CALL).status, named(spans, CALL).attributes["vision_gateway.model"]) == ("UNSET", "big")


async def test_a_model_that_is_passed_over_is_an_event(start, traces):
    gateway = await start({"gemma": model(tasks=("OCR",)), "big": model()})
    await gateway.stub.Caption(request())
    spans = await traces.whole(CALL)

    [(name, said)] = named(spans, CALL).events
    assert (name, said) == (
        "skipped",
        {"vision_gateway.model": "gemma", "vision_gateway.reason": "UNSUPPORTED_BY_MODEL"},
    )


async def test_the_wait_between_two_attempts_is_a_span(start, traces):
    retry = {"attempts": 2, "wait_s": 0.01, "longest_wait_s": 0.02}
    gateway = await start({"gemma": model(outcomes=("BACKEND_UNAVAILABLE",), retry=retry)})
    await gateway.stub.Caption(request())

    attempt = ["attempt gemma", ["image"], [GEMMA]]
    assert tree(await traces.whole(CALL)) == [[CALL, ["receive"], attempt, ["wait to retry"], attempt]]


async def test_a_hit_asks_nobody(start, traces):
    gateway = await start({"gemma": model()}, cache={"store": "memory"})
    await gateway.stub.Caption(request())
    await gateway.stub.Caption(request())
    spans = await traces.of(8)

    lookups = [span.attributes["vision_gateway.cache"] for span in spans if span.name == "cache lookup"]
    calls = [span.attributes["vision_gateway.cache"] for span in spans if span.name == CALL]
    assert tree(spans)[1] == [CALL, ["receive"], ["image digest"], ["cache lookup"]]
    assert (lookups, calls) == (["miss", "hit"], ["miss", "hit"])


async def test_a_stream_is_in_its_span_to_its_end_and_its_first_text_is_an_event(start, traces):
    gateway = await start({"gemma": model(answer="A cat on a sofa.", delay_s=0.2, time_to_first_token_s=0.05)})
    async for _ in gateway.stub.StreamCaption(pb.StreamCaptionRequest(image=image())):
        pass
    spans = await traces.whole("visiongateway.v1.VisionService/StreamCaption")

    asked, call = named(spans, GEMMA), spans[0]
    assert ([name for name, _ in asked.events], asked.attributes["gen_ai.request.stream"]) == (["first_text"], True)
    assert asked.attributes["gen_ai.response.time_to_first_chunk"] == 0.05
    assert (call.name, call.end >= asked.end > call.start) == (spans[0].name, True)


async def test_a_cancelled_call_is_told_so_and_is_no_error(start, traces):
    gateway = await start({"gemma": model(delay_s=30)})
    call = gateway.stub.Caption(request())
    async with asyncio.timeout(20):
        while 'inflight{scope="gemma"} 1.0' not in (await gateway.get("/metrics"))[1]:  # noqa: ASYNC110  seen from outside
            await asyncio.sleep(0.02)
    call.cancel()
    spans = await traces.whole(CALL)

    ended = {span.name: (span.status, span.attributes.get("error.type")) for span in spans}
    assert ended == {
        CALL: ("UNSET", "CANCELLED"),
        "receive": ("UNSET", None),
        "attempt gemma": ("UNSET", "CANCELLED"),
        "image": ("UNSET", None),
        GEMMA: ("UNSET", "CANCELLED"),
    }
    assert named(spans, CALL).attributes["rpc.response.status_code"] == "CANCELLED"


@pytest.mark.parametrize(
    ("outcome", "code", "status"),
    [("BACKEND_UNAVAILABLE", "UNAVAILABLE", "ERROR"), ("REFUSED", "FAILED_PRECONDITION", "UNSET")],
)
async def test_a_failed_call_is_an_error_where_its_caller_is_not_to_blame(start, traces, outcome, code, status):
    gateway = await start({"gemma": model(outcomes=(outcome,), repeat=True)})
    await failure_of(gateway.stub.Caption(request()))
    call = named(await traces.whole(CALL), CALL)

    told = call.attributes["rpc.response.status_code"], call.attributes["error.type"]
    assert (told, call.status) == ((code, outcome), status)


async def test_models_that_race_are_side_by_side(start, traces):
    gateway = await start(
        {"gemma": model(delay_s=30, price="free"), "big": model(price="free")},
        routes={"default": {"models": ["gemma", "big"], "hedge": {"after_s": 0.05}}},
    )
    await gateway.stub.Caption(request())
    spans = await traces.whole(CALL)

    lost, won, call = named(spans, "attempt gemma"), named(spans, "attempt big"), named(spans, CALL)
    assert (lost.parent_id, won.parent_id) == (call.span_id, call.span_id)
    assert lost.start < won.start < lost.end
    assert (lost.attributes["error.type"], call.events) == ("CANCELLED", [("hedged", {"vision_gateway.model": "big"})])


async def test_a_shadow_call_is_in_the_trace_of_the_call_that_it_repeats(start, traces):
    gateway = await start(
        {"gemma": model(), "big": model()},
        routes={"default": {"models": ["gemma"], "shadow": {"model": "big", "share": 1.0}}},
    )
    await gateway.stub.Caption(request())
    await traces.whole(CALL)
    spans = await traces.whole("shadow")

    assert tree(spans)[0][-1] == ["shadow", ["attempt big", ["image"], [BIG]]]


async def test_each_model_of_a_comparison_is_a_part(start, traces):
    gateway = await start({"gemma": model(), "big": model()})
    async for _ in gateway.stub.Compare(pb.CompareRequest(caption=pb.CaptionRequest(image=image()))):
        pass
    [[name, *parts]] = tree(await traces.whole("visiongateway.v1.VisionService/Compare"))

    assert name == "visiongateway.v1.VisionService/Compare"
    assert sorted(part[1][0] for part in parts if part[0] == "part Caption") == ["attempt big", "attempt gemma"]


async def test_a_call_of_no_method_has_no_name_of_its_caller_s(start, traces):
    gateway = await start({"gemma": model()})
    await failure_of(gateway.channel.unary_unary("/visiongateway.v1.VisionService/Secret")(b""))
    spans = await traces.of(1)

    assert [span.name for span in spans] == ["visiongateway.v1.VisionService/_OTHER"]


async def test_the_wait_for_a_place_is_a_span(start, traces):
    gateway = await start({"gemma": model(delay_s=0.2, max_inflight=1)})
    await asyncio.gather(gateway.stub.Caption(request()), gateway.stub.Caption(request()))
    spans = await traces.of(11)

    attempt = ["attempt gemma", ["image"], [GEMMA]]
    assert sorted(tree(spans)) == [[CALL, ["receive"], attempt], [CALL, ["receive"], ["queue"], attempt]]


async def test_priced_attempts_wait_for_the_ledger_in_a_span(start, traces, tmp_path):
    gateway = await start({"gemma": model()}, ledger={"url": f"sqlite:///{tmp_path}/ledger.db"})
    await gateway.stub.Caption(request(cache=call_pb2.CACHE_POLICY_BYPASS))

    assert tree(await traces.whole(CALL))[0][-1] == ["ledger"]
