"""Several tasks in one call of a model, through a whole gateway whose settings say so: all is real but the models."""

from __future__ import annotations

import io
import json
import sqlite3
from contextlib import closing

import pytest
from PIL import Image

from visiongateway.v1 import call_pb2, image_pb2, vision_service_pb2 as pb

BOXES = {"detections": [{"label": "cat", "box_2d": [100, 200, 500, 700]}]}
TOGETHER = {"task_1": "A cat.", "task_2": BOXES, "task_3": "Red."}
TASKS = [
    pb.AnnotateTask(caption=pb.CaptionRequest()),
    pb.AnnotateTask(detect=pb.DetectRequest(labels=["cat"])),
    pb.AnnotateTask(vqa=pb.VQARequest(question="What colour is the sofa?")),
]


def scripted(together=TOGETHER, **options):
    """Usage and price are such that nothing divides by three."""
    answers = {"Annotate": json.dumps(together), "Detect": json.dumps(BOXES)}
    given = {"kind": "fake", "profile": "gemma4", "price": {"input": "1", "output": "2"}, "retry": False}
    return {**given, "output_tokens": 100, "answers": answers, "answer": "Asked alone."} | options


@pytest.fixture
def start(start_gateway, tmp_path):
    """Starts a gateway whose route says that several tasks go to its models at once."""

    async def started(*, tables=(), **models):
        routes = {"default": list(models), "annotate": list(models)}
        tables = {"routes": routes, "ledger": {"url": f"sqlite:///{tmp_path}/l.db"}, **dict(tables)}
        return await start_gateway(models=models, **tables)

    return started


@pytest.fixture
def upstream_calls(tmp_path):
    """What the ledger has: RPC, reason and cost of each call of a model."""

    def read():
        with closing(sqlite3.connect(tmp_path / "l.db")) as ledger:
            return ledger.execute(
                "SELECT rpc, reason, cost_nano_usd FROM vision_gateway_attempts ORDER BY rpc"
            ).fetchall()

    return read


async def annotated(gateway, tasks=TASKS, **options):
    out = io.BytesIO()
    Image.new("RGB", (64, 48), "teal").save(out, "PNG")
    request = pb.AnnotateRequest(
        image=image_pb2.Image(data=out.getvalue()), tasks=tasks, options=call_pb2.CallOptions(**options)
    )
    return await gateway.stub.Annotate(request, timeout=20)


def answers(response):
    return [getattr(each.answer, each.answer.WhichOneof("answer")) for each in response.results]


async def test_one_call_of_the_model_answers_all_tasks(start, upstream_calls):
    gateway = await start(one=scripted())

    response = await annotated(gateway)

    caption, detect, vqa = answers(response)
    assert (caption.text, vqa.answer) == ("A cat.", "Red.")
    assert [(each.label, each.box.y_min) for each in detect.detections] == [("cat", pytest.approx(0.1))]
    assert [(rpc, reason) for rpc, reason, _ in upstream_calls()] == [("Annotate", "")]


async def test_what_it_cost_is_shared_by_the_answers_to_the_last_nano_dollar(start, upstream_calls):
    gateway = await start(one=scripted())

    response = await annotated(gateway)

    infos = [each.info for each in answers(response)]
    ((_, _, cost),) = upstream_calls()
    assert cost == response.cost_nano_usd == sum(info.cost_nano_usd for info in infos)
    assert response.usage.output_token_count == sum(info.usage.output_token_count for info in infos) == 100
    assert [info.usage.output_token_count for info in infos] == [34, 33, 33]
    assert {(info.model, info.prompt_version.split("/")[2], info.route_reason) for info in infos} == {
        ("one", "annotate", "route:annotate")
    }


async def test_a_task_whose_answer_is_of_no_use_is_asked_by_itself_and_told_both_costs(start, upstream_calls):
    gateway = await start(one=scripted(TOGETHER | {"task_2": "I see no boxes"}))

    response = await annotated(gateway)

    detect = answers(response)[1]
    assert [each.label for each in detect.detections] == ["cat"]
    calls = upstream_calls()
    assert [rpc for rpc, _, _ in calls] == ["Annotate", "Detect"]
    assert response.cost_nano_usd == sum(cost for _, _, cost in calls)
    assert response.cost_nano_usd == sum(each.info.cost_nano_usd for each in answers(response))
    assert [attempt.model for attempt in detect.info.attempts] == ["one", "one"]


async def test_where_nothing_of_the_answer_is_of_use_every_task_is_asked_by_itself(start, upstream_calls):
    gateway = await start(one=scripted(["no object"]))

    response = await annotated(gateway)

    assert [answers(response)[index].info.model for index in range(3)] == ["one"] * 3
    assert [(rpc, reason) for rpc, reason, _ in upstream_calls()] == [
        ("Annotate", "UNUSABLE_ANSWER"),
        ("Caption", ""),
        ("Detect", ""),
        ("VQA", ""),
    ]
    assert response.cost_nano_usd == sum(each.info.cost_nano_usd for each in answers(response))


async def test_the_route_s_next_model_answers_all_where_the_first_one_fails(start, upstream_calls):
    gateway = await start(broken=scripted(outcomes=["BACKEND_UNAVAILABLE"]), well=scripted())

    response = await annotated(gateway)

    assert {each.info.model for each in answers(response)} == {"well"}
    assert len(upstream_calls()) == 2


async def test_a_model_that_takes_one_task_a_call_is_passed_by(start, upstream_calls):
    gateway = await start(small=scripted(profile="embedded"), one=scripted())

    response = await annotated(gateway)

    assert {each.info.model for each in answers(response)} == {"one"}
    assert [rpc for rpc, _, _ in upstream_calls()] == ["Annotate"]


@pytest.mark.parametrize(
    "own",
    [
        pb.AnnotateTask(detect=pb.DetectRequest(options=call_pb2.CallOptions(seed=1))),
        pb.AnnotateTask(prompt=pb.PromptRequest(prompt="Say it.", system="You are a pirate.")),
        pb.AnnotateTask(caption=pb.CaptionRequest(options=call_pb2.CallOptions(model="one"))),
    ],
    ids=["options of its own", "rules of its own", "a pin"],
)
async def test_a_task_that_differs_is_asked_by_itself(start, upstream_calls, own):
    gateway = await start(one=scripted({"task_1": "A cat.", "task_2": "Red."}))

    await annotated(gateway, [TASKS[0], own, TASKS[2]])

    assert [rpc for rpc, _, _ in upstream_calls()] == sorted(["Annotate", own.WhichOneof("task").title()])


async def test_without_such_a_route_every_task_is_asked_by_itself(start_gateway, tmp_path, upstream_calls):
    gateway = await start_gateway(models={"one": scripted()}, ledger={"url": f"sqlite:///{tmp_path}/l.db"})

    await annotated(gateway)

    assert [rpc for rpc, _, _ in upstream_calls()] == ["Caption", "Detect", "VQA"]


@pytest.mark.parametrize(
    ("tasks", "expected"), [(["Caption", "Detect", "VQA"], ["Annotate"]), (["Caption", "VQA"], ["Caption", "VQA"])]
)
async def test_a_model_is_asked_at_once_only_what_it_is_asked_at_all(start, upstream_calls, tasks, expected):
    gateway = await start(one=scripted(tasks=tasks))

    await annotated(gateway)

    assert [rpc for rpc, _, _ in upstream_calls()] == expected


async def test_a_cost_limit_bounds_each_task_of_several(start):
    gateway = await start(one=scripted())

    response = await annotated(gateway, max_cost_nano_usd=10_000_000)

    assert max(each.info.cost_nano_usd for each in answers(response)) <= 10_000_000


async def test_the_cache_is_not_looked_into(start, upstream_calls):
    gateway = await start(one=scripted(), tables={"cache": {"store": "memory"}})

    await annotated(gateway)
    await annotated(gateway)

    assert [rpc for rpc, _, _ in upstream_calls()] == ["Annotate", "Annotate"]


async def test_a_doubtful_answer_goes_up_a_route_that_escalates(start, upstream_calls):
    doubtful = TOGETHER | {"task_1": "cat cat cat cat cat cat cat cat cat cat cat cat cat cat cat cat cat cat cat cat"}
    route = {"models": ["one", "two"], "escalate": True}
    gateway = await start(one=scripted(doubtful), two=scripted(), tables={"routes": {"annotate": route}})

    response = await annotated(gateway)

    assert [answers(response)[0].text, answers(response)[0].info.model] == ["A cat.", "two"]
    assert [rpc for rpc, _, _ in upstream_calls()] == ["Annotate", "Annotate"]
    assert response.cost_nano_usd == sum(each.info.cost_nano_usd for each in answers(response))
