"""Streams, annotations, comparisons and the list of models, with everything real but the models."""

from __future__ import annotations

import asyncio
import io
import json
from contextlib import asynccontextmanager

import grpc
import pytest
from grpc import StatusCode
from PIL import Image

from gateway import app, settings
from tests.fixtures.served_gateway import failure
from visiongateway.v1 import image_pb2, vision_service_pb2 as pb, vision_service_pb2_grpc

ANSWER = "A cat sleeps on a red sofa."


def _png():
    out = io.BytesIO()
    Image.new("RGB", (64, 48), "teal").save(out, "PNG")
    return image_pb2.Image(data=out.getvalue())


def _script(**options):
    price = {"input": "1", "output": "2"}
    return {"kind": "fake", "profile": "gemma4", "price": price, "answer": ANSWER, "retry": False, **options}


@pytest.fixture
def run():
    """Runs a gateway whose models are scripts."""

    @asynccontextmanager
    async def running(models, **tables):
        addresses = {"grpc_address": "127.0.0.1:0", "http_address": "127.0.0.1:0", "drain_wait_s": 0, "grace_s": 1}
        loaded = settings.load(server=addresses, models=models, images={"workers": 1}, **tables)
        stop, where = asyncio.Event(), asyncio.get_running_loop().create_future()

        async def started(addresses):
            where.set_result(addresses)

        gateway = asyncio.create_task(app.run(loaded, stop=stop, started=started))
        await asyncio.wait({gateway, where}, return_when=asyncio.FIRST_COMPLETED)
        if gateway.done():
            gateway.result()
        async with grpc.aio.insecure_channel(where.result().grpc) as channel:
            yield vision_service_pb2_grpc.VisionServiceStub(channel)
        stop.set()
        await gateway

    return running


async def _read(call):
    """Reads a stream to its end; gives the deltas, the answer if there is one, and the failure if it failed."""
    deltas, answer = [], None
    try:
        async for message in call:
            if message.HasField("delta"):
                deltas.append(message.delta)
            else:
                answer = message.answer
    except grpc.aio.AioRpcError as error:
        return deltas, answer, failure(error)
    return deltas, answer, None


async def test_text_comes_piece_by_piece_and_whole_at_the_end(run):
    async with run({"scripted": _script()}) as stub:
        deltas, answer, _ = await _read(stub.StreamCaption(pb.StreamCaptionRequest(image=_png()), timeout=10))

    assert (deltas[0], "".join(deltas), answer.text) == ("A", ANSWER, ANSWER)
    assert (answer.info.model, answer.info.cost_nano_usd > 0) == ("scripted", True)


async def test_what_fails_before_its_first_word_is_answered_by_the_next_model(run):
    models = {"broken": _script(outcomes=["BACKEND_UNAVAILABLE"]), "well": _script()}
    async with run(models) as stub:
        deltas, answer, _ = await _read(stub.StreamCaption(pb.StreamCaptionRequest(image=_png()), timeout=10))

    assert ("".join(deltas), answer.info.model) == (ANSWER, "well")


async def test_what_fails_after_its_first_word_ends_with_a_status_that_calls_it_partial(run):
    models = {"broken": _script(outcomes=["BACKEND_UNAVAILABLE"], pieces_before_failure=3), "well": _script()}
    async with run(models) as stub:
        deltas, answer, failed = await _read(stub.StreamCaption(pb.StreamCaptionRequest(image=_png()), timeout=10))

    assert ("".join(deltas), answer) == ("A cat sleeps", None)
    assert (failed.code, failed.reason, failed.info.metadata["partial"]) == (
        StatusCode.UNAVAILABLE,
        "BACKEND_UNAVAILABLE",
        "true",
    )


async def test_several_tasks_about_one_image_have_one_result_each(run):
    tasks = [
        pb.AnnotateTask(caption=pb.CaptionRequest()),
        pb.AnnotateTask(detect=pb.DetectRequest()),
        pb.AnnotateTask(vqa=pb.VQARequest(question="what is it?")),
    ]
    async with run({"scripted": _script()}) as stub:
        answer = await stub.Annotate(pb.AnnotateRequest(image=_png(), tasks=tasks), timeout=10)

    kinds = [result.WhichOneof("outcome") for result in answer.results]
    assert kinds == ["answer", "status", "answer"]  # The script has no objects.
    assert answer.results[2].answer.vqa.answer == ANSWER
    assert answer.cost_nano_usd > sum(
        each.answer.caption.info.cost_nano_usd + each.answer.vqa.info.cost_nano_usd for each in answer.results
    )


async def test_models_are_compared_one_message_each_and_the_agreement_last(run):
    boxes = [{"label": "cat", "box_2d": [100, 200, 500, 700]}], [{"label": "cat", "box_2d": [100, 200, 500, 600]}]
    models = {
        name: _script(answers={"Detect": json.dumps({"detections": found})})
        for name, found in zip(("one", "other"), boxes, strict=True)
    }
    models["broken"] = _script(outcomes=["BACKEND_UNAVAILABLE"])
    async with run(models) as stub:
        call = stub.Compare(pb.CompareRequest(detect=pb.DetectRequest(image=_png())), timeout=10)
        *rows, last = [message async for message in call]

    by_model = {row.model: row for row in rows}
    assert sorted(by_model) == ["broken", "one", "other"]
    assert by_model["broken"].status.code == StatusCode.UNAVAILABLE.value[0]
    assert by_model["one"].answer.detect.detections[0].label == "cat"
    (pair,) = last.agreement.pairs
    assert (pair.first_model, pair.second_model, round(pair.score, 3)) == ("one", "other", 0.8)


async def test_the_models_are_listed_with_what_they_can_and_cost(run):
    async with run({"scripted": _script(tasks=["OCR"])}, routes={"default": ["scripted"]}) as stub:
        answer = await stub.ListModels(pb.ListModelsRequest(), timeout=10)

    (model,) = answer.models
    assert (model.name, model.backend, model.family, list(model.tasks)) == ("scripted", "fake", "gemma4", ["OCR"])
    assert (model.price.input_nano_usd_per_token, model.price.output_nano_usd_per_token) == (1000, 2000)
    assert [route.name for route in answer.routes] == ["default"]
