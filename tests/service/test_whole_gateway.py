"""The server with everything real behind it but the model."""

from __future__ import annotations

import asyncio
import io
import json
from contextlib import asynccontextmanager

import grpc
import httpx
import pytest
from grpc import StatusCode
from PIL import Image

from gateway import app, settings
from tests.fixtures.served_gateway import failure_of
from visiongateway.v1 import call_pb2, image_pb2, vision_service_pb2 as pb, vision_service_pb2_grpc

BOX = {"label": "cat", "box_2d": [100, 200, 500, 700]}
ANSWERS = {
    "Detect": json.dumps({"detections": [BOX]}),
    "OCR": json.dumps({"lines": [{"text": "TOTAL 7", "box_2d": [0, 0, 100, 500]}]}),
    "Classify": json.dumps({"labels": [{"label": "cat"}]}),
}


def _png():
    out = io.BytesIO()
    Image.new("RGB", (640, 480), "teal").save(out, "PNG")
    return image_pb2.Image(data=out.getvalue())


@pytest.fixture
def run():
    """Runs a gateway whose models are scripts."""

    @asynccontextmanager
    async def running(models, **server):
        addresses = {"grpc_address": "127.0.0.1:0", "http_address": "127.0.0.1:0", "drain_wait_s": 0, "grace_s": 1}
        loaded = settings.load(server=addresses | server, models=models, images={"workers": 1})
        stop, where = asyncio.Event(), asyncio.get_running_loop().create_future()

        async def started(addresses):
            where.set_result(addresses)

        gateway = asyncio.create_task(app.run(loaded, stop=stop, started=started))
        await asyncio.wait({gateway, where}, return_when=asyncio.FIRST_COMPLETED)
        if gateway.done():
            gateway.result()
        async with grpc.aio.insecure_channel(where.result().grpc) as channel:
            yield vision_service_pb2_grpc.VisionServiceStub(channel), where.result().http, stop
        stop.set()
        await gateway

    return running


async def _until_metrics_have(http, sample):
    async with httpx.AsyncClient() as client, asyncio.timeout(10):
        while sample not in (await client.get(f"http://{http}/metrics")).text.splitlines():  # noqa: ASYNC110  seen from outside
            await asyncio.sleep(0.02)


def _script(**options):
    return {"kind": "fake", "profile": "gemma4", "price": {"input": "1", "output": "2"}, "answers": ANSWERS, **options}


async def test_all_five_rpcs_answer_and_tell_who_and_at_what_cost(run):
    async with run({"scripted": _script()}) as (stub, http, _):
        image = _png()
        answers = await asyncio.gather(
            stub.Caption(pb.CaptionRequest(image=image), timeout=10),
            stub.OCR(pb.OCRRequest(image=image, with_regions=True), timeout=10),
            stub.Detect(pb.DetectRequest(image=image, labels=["cat"]), timeout=10),
            stub.Classify(pb.ClassifyRequest(image=image, labels=["cat", "dog"]), timeout=10),
            stub.VQA(pb.VQARequest(image=image, question="what is it?"), timeout=10),
        )
        async with httpx.AsyncClient() as client:
            metrics = (await client.get(f"http://{http}/metrics")).text
    caption, ocr, detect, classify, vqa = answers
    assert (caption.text, vqa.answer) == ("A scripted answer.", "A scripted answer.")
    assert (ocr.text, detect.detections[0].label, classify.labels[0].label) == ("TOTAL 7", "cat", "cat")
    assert {answer.info.model for answer in answers} == {"scripted"}
    assert all(answer.info.cost_nano_usd > 0 for answer in answers)
    assert [
        rpc for rpc in ("Caption", "OCR", "Detect", "Classify", "VQA") if f'code="OK",rpc="{rpc}"' not in metrics
    ] == []


async def test_what_is_wrong_with_an_image_is_found_without_asking_a_model(run):
    async with run({"scripted": _script()}) as (stub, http, _):
        request = pb.CaptionRequest(image=image_pb2.Image(data=b"no picture at all"))
        failure = await failure_of(stub.Caption(request, timeout=10))
        async with httpx.AsyncClient() as client:
            metrics = (await client.get(f"http://{http}/metrics")).text
    assert (failure.code, failure.reason) == (StatusCode.INVALID_ARGUMENT, "INVALID_IMAGE")
    assert failure.violations == [("image", failure.message)]
    assert "vision_gateway_attempts_total{" not in metrics


async def test_a_failed_call_that_was_billed_tells_its_cost(run):
    async with run({"scripted": _script(outcomes=["REFUSED"])}) as (stub, _, __):
        failure = await failure_of(stub.Caption(pb.CaptionRequest(image=_png()), timeout=10))
    assert failure.reason == "REFUSED"
    assert failure.trailers["x-vision-model"] == "scripted"
    assert int(failure.trailers["x-vision-cost-nano-usd"]) > 0


async def test_an_unknown_model_is_not_found(run):
    async with run({"scripted": _script()}) as (stub, _, __):
        request = pb.CaptionRequest(image=_png(), options=call_pb2.CallOptions(model="other"))
        failure = await failure_of(stub.Caption(request, timeout=10))
    assert (failure.code, failure.reason) == (StatusCode.NOT_FOUND, "UNKNOWN_MODEL")


async def test_a_deadline_ends_the_work_at_the_model(run):
    async with run({"scripted": _script(delay_s=60)}) as (stub, http, _):
        failure = await failure_of(stub.Caption(pb.CaptionRequest(image=_png()), timeout=0.5))
        await _until_metrics_have(http, 'vision_gateway_requests_total{code="DEADLINE_EXCEEDED",rpc="Caption"} 1.0')
        await _until_metrics_have(http, 'vision_gateway_inflight{scope="scripted"} 0.0')
    assert failure.code is StatusCode.DEADLINE_EXCEEDED


async def test_when_the_gateway_stops_a_long_call_ends_unavailable(run):
    async with run({"scripted": _script(delay_s=60)}, grace_s=0.5) as (stub, http, stop):
        call = asyncio.ensure_future(failure_of(stub.Caption(pb.CaptionRequest(image=_png()))))
        await _until_metrics_have(http, 'vision_gateway_inflight{scope="scripted"} 1.0')
        stop.set()
        failure = await call
    assert (failure.code, failure.reason) == (StatusCode.UNAVAILABLE, "DRAINING")


async def test_when_the_gateway_stops_a_call_that_several_wait_for_ends_for_all_of_them(run, monkeypatch):
    monkeypatch.setenv("VISION_GATEWAY_CACHE__STORE", "memory")
    async with run({"scripted": _script(delay_s=60)}, grace_s=0.5) as (stub, http, stop):
        calls = [asyncio.ensure_future(failure_of(stub.Caption(pb.CaptionRequest(image=_png())))) for _ in range(3)]
        await _until_metrics_have(http, 'vision_gateway_inflight{scope="server"} 3.0')
        await _until_metrics_have(http, 'vision_gateway_inflight{scope="scripted"} 1.0')
        stop.set()
        reasons = [(await call).reason for call in calls]
    assert reasons == ["DRAINING"] * 3


async def test_a_free_answer_after_a_paid_failure_does_not_call_its_cost_free(run):
    models = {"paid": _script(outcomes=["UNUSABLE_ANSWER"]), "free": _script(price="free")}
    async with run(models) as (stub, _, __):
        info = (await stub.Caption(pb.CaptionRequest(image=_png()), timeout=10)).info
    paid, free = info.attempts
    assert (info.model, free.cost_nano_usd, info.cost_nano_usd) == ("free", 0, paid.cost_nano_usd)
    assert paid.cost_nano_usd > 0
    assert info.cost_basis == call_pb2.COST_BASIS_ESTIMATED
    assert info.usage.output_token_count == 24


async def test_the_picture_that_is_described_and_the_image_that_is_refused_are_told_apart(run):
    small = io.BytesIO()
    Image.new("RGB", (64, 48), "teal").save(small, "PNG")
    further = image_pb2.Image(data=small.getvalue())
    async with run({"scripted": _script()}) as (stub, http, _):
        request = pb.VQARequest(image=_png(), images=[further], question="what differs?")
        image = (await stub.VQA(request, timeout=10)).info.image
        request.images.add(data=b"no picture at all")
        failure = await failure_of(stub.VQA(request, timeout=10))
        await _until_metrics_have(http, 'vision_gateway_images_rejected_total{limit="format"} 1.0')
    assert (image.width_px, image.height_px) == (640, 480)
    assert failure.violations == [("images[1]", failure.message)]


async def test_a_call_that_may_cost_too_much_is_refused_before_a_model_is_asked(run):
    async with run({"scripted": _script()}) as (stub, http, _):
        request = pb.CaptionRequest(image=_png(), options=call_pb2.CallOptions(max_cost_nano_usd=1))
        failure = await failure_of(stub.Caption(request, timeout=10))
        labels = 'model="scripted",outcome="skipped",reason="COST_ABOVE_LIMIT",rpc="Caption"'
        await _until_metrics_have(http, f"vision_gateway_attempts_total{{{labels}}} 1.0")
    assert (failure.code, failure.reason) == (StatusCode.FAILED_PRECONDITION, "COST_ABOVE_LIMIT")


@pytest.mark.parametrize(("told", "reason"), [({}, "UNSUPPORTED_BY_MODEL"), ({"local": True}, "UPSTREAM_AUTH")])
async def test_a_provider_s_model_is_a_third_party_s_unless_the_operator_says_otherwise(run, told, reason):
    models = {"gpt": {"kind": "openai", "api_key_env": "NO_SUCH_KEY", **told}}
    async with run(models) as (stub, _, __):
        request = pb.CaptionRequest(image=_png(), options=call_pb2.CallOptions(local_only=True))
        failure = await failure_of(stub.Caption(request, timeout=10))
    assert failure.reason == reason


async def test_the_operator_s_figures_decide_which_model_is_best(run):
    async with run({"good": _script(quality=0.1), "better": _script(quality=0.2)}) as (stub, _, __):
        request = pb.CaptionRequest(image=_png(), options=call_pb2.CallOptions(priority=call_pb2.PRIORITY_QUALITY))
        info = (await stub.Caption(request, timeout=10)).info
    assert (info.model, info.route_reason) == ("better", "route:default,priority:quality")


async def test_a_price_that_is_no_number_is_a_problem_of_the_model_that_has_it():
    loaded = settings.load(models={"scripted": _script(price={"input": "abc", "output": "2"})})

    assert app.check(loaded) == [
        'models.scripted: a price must be a number of US dollars per 1M tokens, such as "0.060"'
    ]


async def test_a_further_image_that_cannot_be_decoded_is_named_by_its_own_field(run):
    large = io.BytesIO()
    Image.new("RGB", (2000, 1500), "teal").save(large, "PNG")
    start = large.getvalue().index(b"IDAT") + 4
    damaged = large.getvalue()[:start] + bytes(1000) + large.getvalue()[start + 1000 :]
    async with run({"scripted": _script()}) as (stub, http, _):
        request = pb.VQARequest(image=_png(), images=[image_pb2.Image(data=damaged)], question="what differs?")
        failure = await failure_of(stub.VQA(request, timeout=10))
        await _until_metrics_have(http, 'vision_gateway_images_rejected_total{limit="decode"} 1.0')
    assert (failure.reason, failure.info.metadata["limit"]) == ("INVALID_IMAGE", "decode")
    assert failure.violations == [("images[0]", failure.message)]
