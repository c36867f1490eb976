"""Several tasks about one image through a whole gateway: everything is real but the models."""

from __future__ import annotations

import io
import json

import pytest
from google.rpc import error_details_pb2
from grpc import StatusCode
from PIL import Image

from gateway.imaging.pool import Pool
from tests.fixtures.served_gateway import failure_of
from visiongateway.v1 import call_pb2, image_pb2, vision_service_pb2 as pb

ANSWERS = {"Detect": json.dumps({"detections": [{"label": "cat", "box_2d": [100, 200, 500, 700]}]})}


def scripted(**options):
    price = {"input": "1", "output": "2"}
    return {"kind": "fake", "profile": "gemma4", "price": price, "answers": ANSWERS, "retry": False} | options


def picture(width=64, height=48):
    out = io.BytesIO()
    Image.new("RGB", (width, height), "teal").save(out, "PNG")
    return image_pb2.Image(data=out.getvalue())


def task(name, **fields):
    kinds = {"caption": pb.CaptionRequest, "detect": pb.DetectRequest, "ocr": pb.OCRRequest, "vqa": pb.VQARequest}
    return pb.AnnotateTask(**{name: kinds[name](**fields)})


async def annotated(gateway, *tasks, image=None, within_s=20, **options):
    """Gives the answer and the trailers."""
    shared = call_pb2.CallOptions(**options)
    call = gateway.stub.Annotate(
        pb.AnnotateRequest(image=image or picture(), tasks=tasks, options=shared), timeout=within_s
    )
    return await call, dict(await call.trailing_metadata())


def reason(result):
    if result.HasField("answer"):
        return None
    info = error_details_pb2.ErrorInfo()
    assert result.status.details[0].Unpack(info)
    return info.reason


def info_of(result):
    return getattr(result.answer, result.answer.WhichOneof("answer")).info


async def test_each_task_has_its_own_result_in_the_order_of_the_tasks(start_gateway):
    gateway = await start_gateway(models={"one": scripted(tasks=["Caption", "Detect"])})

    answer, _ = await annotated(gateway, task("detect"), task("ocr"), task("caption"))

    assert [reason(each) for each in answer.results] == [None, "UNSUPPORTED_BY_MODEL", None]
    assert [each.answer.WhichOneof("answer") for each in answer.results] == ["detect", None, "caption"]
    assert answer.results[0].answer.detect.detections[0].label == "cat"


async def test_cost_and_usage_of_all_tasks_are_summed_those_of_failures_too(start_gateway):
    gateway = await start_gateway(models={"one": scripted(answers={"Detect": "no JSON"})})

    answer, trailers = await annotated(gateway, task("caption"), task("detect"), task("vqa", question="what?"))

    infos = [info_of(each) for each in answer.results if each.HasField("answer")]
    assert [reason(each) for each in answer.results] == [None, "UNUSABLE_ANSWER", None]
    assert answer.cost_nano_usd > sum(info.cost_nano_usd for info in infos)
    assert answer.usage.output_token_count > sum(info.usage.output_token_count for info in infos)
    assert (trailers["x-vision-cost-nano-usd"], trailers["x-vision-model"]) == (str(answer.cost_nano_usd), "one")


@pytest.mark.parametrize("routes", [{}, {"annotate": ["one"]}], ids=["each alone", "together"])
@pytest.mark.parametrize("right", ["Caption", "StreamCaption"])
async def test_a_task_that_the_caller_may_not_ask_for_has_its_own_status_and_the_others_their_answers(
    start_gateway, routes, right
):
    gateway = await start_gateway(
        models={"one": scripted()}, routes=routes, principals={"anonymous": {"rpcs": ["Annotate", right]}}
    )

    answer, _ = await annotated(gateway, task("ocr"), task("caption"), task("ocr"), task("caption", language="de"))

    assert [reason(each) for each in answer.results] == ["FORBIDDEN", None, "FORBIDDEN", None]
    assert [each.answer.WhichOneof("answer") for each in answer.results] == [None, "caption", None, "caption"]
    assert answer.results[0].status.code == StatusCode.PERMISSION_DENIED.value[0]
    assert 'rpc="OCR"' not in (await gateway.get("/metrics"))[1]


async def test_options_of_a_task_win_over_those_of_all(start_gateway):
    gateway = await start_gateway(models={"one": scripted(), "two": scripted()}, routes={"second": ["two"]})
    own = {"model": {"model": "two"}, "route": {"route": "second"}, "none": {}}

    answer, _ = await annotated(
        gateway, *(task("caption", options=call_pb2.CallOptions(**each)) for each in own.values()), model="one"
    )

    assert [info_of(each).model for each in answer.results] == ["two", "two", "one"]


async def test_a_cost_limit_bounds_each_task(start_gateway):
    gateway = await start_gateway(models={"one": scripted()})

    answer, _ = await annotated(
        gateway,
        task("caption", options=call_pb2.CallOptions(max_cost_nano_usd=1)),
        task("caption"),
        max_cost_nano_usd=10**9,
    )

    assert [reason(each) for each in answer.results] == ["COST_ABOVE_LIMIT", None]


async def test_who_is_late_has_a_status_and_the_others_their_answers(start_gateway):
    gateway = await start_gateway(
        models={"one": scripted(), "late": scripted(delay_s=600)}, routes={"default": ["one"], "detect": ["late"]}
    )

    answer, _ = await annotated(gateway, task("caption"), task("detect"), within_s=4)

    assert [reason(each) for each in answer.results] == [None, "DEADLINE"]


async def test_the_image_is_prepared_once_for_all_tasks_that_send_it_alike(start_gateway, monkeypatch):
    run, jobs = Pool.run, []

    async def counted(pool, job, data, *, timeout_s):
        jobs.append((job.to_width_px, job.to_height_px))
        return await run(pool, job, data, timeout_s=timeout_s)

    monkeypatch.setattr(Pool, "run", counted)
    gateway = await start_gateway(models={"one": scripted(), "two": scripted()})
    tasks = [task("detect"), task("detect"), task("detect", options=call_pb2.CallOptions(model="two"))]
    coarse = task("detect", options=call_pb2.CallOptions(image_detail=call_pb2.IMAGE_DETAIL_LOW))

    answer, _ = await annotated(gateway, *tasks, coarse, image=picture(3000, 2000))

    sent = [(info_of(each).image.sent_width_px, info_of(each).image.sent_height_px) for each in answer.results]
    assert (sorted(jobs), len(set(sent)), sent[:2]) == (sorted(set(sent)), 2, [sent[2]] * 2)


async def test_every_wrong_field_is_told_by_its_path(start_gateway):
    gateway = await start_gateway(models={"one": scripted()})
    tasks = [
        task("caption", image=picture()),
        pb.AnnotateTask(),
        task("detect", labels=["a", "b", "c", "x" * 1000], options=call_pb2.CallOptions(temperature=9)),
        task("vqa", question="same?", images=[image_pb2.Image()]),
    ]

    failure = await failure_of(annotated(gateway, *tasks, seed=-1))

    assert (failure.code, failure.reason) == (StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
    assert sorted(field for field, _ in failure.violations) == [
        "options.seed",
        "tasks[0].caption.image",
        "tasks[1].task",
        "tasks[2].detect.labels[3]",
        "tasks[2].detect.options.temperature",
        "tasks[3].vqa.images[0]",
    ]


@pytest.mark.parametrize("count", [0, 17])
async def test_there_are_one_to_sixteen_tasks(start_gateway, count):
    gateway = await start_gateway(models={"one": scripted()})

    failure = await failure_of(annotated(gateway, *[task("caption")] * count))

    assert [field for field, _ in failure.violations] == ["tasks"]


async def test_a_further_image_that_cannot_be_read_is_told_by_its_path(start_gateway):
    gateway = await start_gateway(models={"one": scripted()})
    broken = task("vqa", question="same?", images=[image_pb2.Image(data=b"no image")])

    failure = await failure_of(annotated(gateway, task("caption"), broken))

    assert (failure.reason, [field for field, _ in failure.violations]) == (
        "INVALID_IMAGE",
        ["tasks[1].vqa.images[0]"],
    )


async def test_the_log_has_the_attempts_of_all_tasks(start_gateway, log_lines):
    gateway = await start_gateway(models={"one": scripted(delay_s=0.5)})

    answer, _ = await annotated(gateway, task("caption"), task("detect"))

    (line,) = [each for each in map(json.loads, log_lines.getvalue().splitlines()) if each["event"] == "call"]
    assert (line["rpc"], line["model"], len(line["attempts"])) == ("Annotate", "one", 2)
    assert (line["cost_nano_usd"], line["image"]["size"]) == (answer.cost_nano_usd, [64, 48])
    assert line["total_ms"] - line["overhead_ms"] >= 500
