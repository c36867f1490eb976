"""What each family really writes, and what callers get of it: `tests/answers/FAMILY/TASK/NAME.{txt,json}`.

The text is the model's; the JSON has the request that was made of it, the size in pixels of the image sent, and the
response, or the reason of the error.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from google.protobuf import json_format

from gateway import profiles, tasks
from gateway.domain import ImagePlan
from gateway.errors import GatewayError

ANSWERS = Path(__file__).parents[2] / "answers"
CASES = sorted(ANSWERS.glob("*/*/*.txt"))
TASKS = {task.rpc.lower(): task for task in tasks.load().values()}


def read(path):
    case = json.loads(path.with_suffix(".json").read_text("utf-8"))
    family, name = path.parts[-3:-1]
    task, profile = TASKS[name], profiles.load(family)
    query = task.query(json_format.ParseDict(case["request"], task.request()))
    plan = ImagePlan(*case["sent"], token_count=0)
    text = path.read_bytes().decode("utf-8")
    try:
        return task, case, task.parse(profile.read(text), query, profile, plan)
    except GatewayError as exc:
        return task, case, exc.reason


@pytest.mark.parametrize("path", CASES, ids=lambda path: "/".join(path.with_suffix("").parts[-3:]))
def test_an_answer_becomes_the_response_or_error_that_stands_beside_it(path):
    task, case, got = read(path)

    expected = case["error"] if "error" in case else json_format.ParseDict(case["response"], task.response())
    assert got == expected


@pytest.mark.parametrize("family", ["gemma4", "gpt55"])
@pytest.mark.parametrize("task", sorted(TASKS))
def test_every_task_has_six_answers_of_every_language_model(family, task):
    assert len(list((ANSWERS / family / task).glob("*.txt"))) >= 6


@pytest.mark.parametrize("task", sorted(TASKS))
def test_every_task_has_two_answers_of_the_embedded_model(task):
    assert len(list((ANSWERS / "embedded" / task).glob("*.txt"))) >= 2


def test_every_text_has_its_expectation():
    texts = {path.with_suffix("") for path in ANSWERS.glob("*/*/*.txt")}
    expectations = {path.with_suffix("") for path in ANSWERS.glob("*/*/*.json")}

    assert texts == expectations
