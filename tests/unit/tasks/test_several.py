"""Several tasks in one question: what a model is told, and how its answer is taken apart."""

from __future__ import annotations

import json

import pytest

from gateway import profiles, tasks
from gateway.domain import ImagePlan, SeveralQuery
from gateway.errors import UnsupportedByModel, UnusableAnswer
from visiongateway.v1 import vision_service_pb2 as pb

TASKS = tasks.load()
SEVERAL = tasks.askable(TASKS)["Annotate"]
PLAN = ImagePlan(1000, 500, 0)
REQUESTS = {
    "Caption": pb.CaptionRequest(),
    "Detect": pb.DetectRequest(labels=["cat"]),
    "Classify": pb.ClassifyRequest(labels=["cat", "dog"]),
    "OCR": pb.OCRRequest(),
    "VQA": pb.VQARequest(question="How many cats?"),
}
QUERY = SeveralQuery(tuple(TASKS[rpc].query(request) for rpc, request in REQUESTS.items()))
ANSWER = {
    "task_1": "A cat.",
    "task_2": {"detections": [{"label": "cat", "box_2d": [0, 0, 500, 250]}]},
    "task_3": {"labels": [{"label": "cat"}]},
    "task_4": "STOP",
    "task_5": "One.",
}


def read(answer, family="gpt55"):
    text = answer if isinstance(answer, str) else json.dumps(answer)
    return SEVERAL.parse(text, QUERY, profiles.load(family), PLAN).responses


@pytest.mark.parametrize("family", ["gpt55", "gemma4"])
def test_a_model_is_told_every_task_in_that_task_s_own_words_and_form(family):
    profile = profiles.load(family)
    told = SEVERAL.wording(QUERY, profile, PLAN)
    alone = [TASKS[query.rpc].wording(query, profile, PLAN) for query in QUERY.queries]

    assert all(f"task_{number}: {each.user}" in told.user for number, each in enumerate(alone, start=1))
    assert told.schema["required"] == list(told.schema["properties"]) == list(ANSWER)
    assert told.schema["additionalProperties"] is False
    assert list(told.schema["properties"].values()) == [each.schema or {"type": "string"} for each in alone]
    assert told.max_output_tokens == sum(each.max_output_tokens for each in alone)


def test_a_family_that_takes_one_query_is_not_asked_several():
    with pytest.raises(UnsupportedByModel):
        SEVERAL.wording(QUERY, profiles.load("embedded"), PLAN)


def test_each_task_reads_its_own_answer():
    caption, detect, classify, ocr, vqa = read(ANSWER)

    assert (caption.text, ocr.text, vqa.answer) == ("A cat.", "STOP", "One.")
    assert [each.label for each in classify.labels] == ["cat"]
    assert [(each.box.x_max, each.box.y_max) for each in detect.detections] == [(0.5, 0.5)]


@pytest.mark.parametrize("value", [None, "I see no boxes", {"detections": [{"label": "dog"}]}, 7, [], ""])
def test_what_is_of_no_use_for_one_task_is_none_for_that_task_alone(value):
    found = read(ANSWER | {"task_2": value})

    assert [index for index, each in enumerate(found) if each is None] == ([] if value == [] else [1])


def test_an_answer_in_a_fence_and_without_one_of_the_tasks_is_read_all_the_same():
    text = f"Here it is:\n```json\n{json.dumps({'task_1': 'A cat.'})}\n```"

    assert [each is None for each in read(text)] == [False, True, True, True, True]


@pytest.mark.parametrize("answer", ["A cat.", {}, {"tasks": 1}, {"task_2": "no"}, [1, 2]])
def test_an_answer_that_is_of_no_use_for_any_task_is_unusable(answer):
    with pytest.raises(UnusableAnswer):
        read(answer)


def test_answers_agree_as_their_tasks_do():
    first, second = (
        SEVERAL.parse(json.dumps(each), QUERY, profiles.load("gpt55"), PLAN)
        for each in (ANSWER, ANSWER | {"task_5": "Two.", "task_1": None})
    )

    assert SEVERAL.agreement(first, first, QUERY) == 1
    assert SEVERAL.agreement(first, second, QUERY) == SEVERAL.agreement(second, first, QUERY) == 3 / 5


def test_the_version_changes_with_that_of_any_task():
    assert SEVERAL.version == "1." + "".join(task.version for task in TASKS.values())


@pytest.mark.parametrize(("family", "expected"), [("gemma4", "MAX"), ("gpt55", "HIGH")])
def test_the_task_that_wants_to_see_most_says_how_much_is_seen(family, expected):
    assert profiles.load(family).detail(QUERY).name == expected


def test_the_strictest_task_says_how_its_model_samples():
    free = SeveralQuery(tuple(query for query in QUERY.queries if query.rpc in {"Caption", "VQA"}))

    assert [profiles.load("gemma4").sampled(query).temperature for query in (QUERY, free)] == [0.0, 1.0]
