from __future__ import annotations

import itertools

import pytest

from gateway import profiles, tasks
from gateway.simulation import answers
from gateway.simulation.answers import Verdict

TASKS = tasks.load()
RPCS = ("Caption", "OCR", "Detect", "Classify", "VQA")


@pytest.mark.parametrize(("rpc", "family"), list(itertools.product(RPCS, ("gemma4", "gpt55", "embedded"))))
@pytest.mark.parametrize("verdict", [Verdict(right, doubtful) for right in (True, False) for doubtful in (True, False)])
def test_the_checks_of_the_task_doubt_what_is_to_be_doubted_and_nothing_else(rpc, family, verdict):
    task, profile = TASKS[rpc], profiles.load(family)
    query, plan = answers.query(task), profile.plan(1024, 768, profile.details[rpc], None)

    written = answers.text(rpc, verdict, "some-model", profile, plan)

    response = task.parse(written, query, profile, plan)
    assert bool(list(task.doubts(response, written, query, ""))) == verdict.doubtful


@pytest.mark.parametrize("rpc", RPCS)
def test_right_answers_of_two_models_agree_and_a_wrong_one_agrees_less(rpc):
    task = TASKS[rpc]
    query = answers.query(task)

    def answer(family, right):
        profile = profiles.load(family)
        plan = profile.plan(1024, 768, profile.details[rpc], None)
        return task.parse(
            answers.text(rpc, Verdict(right, doubtful=False), family, profile, plan), query, profile, plan
        )

    right, also_right, wrong = (answer(*each) for each in (("gemma4", True), ("gpt55", True), ("gpt55", False)))
    # Boxes in whole pixels are not quite those of the grid.
    assert task.agreement(right, also_right, query) == pytest.approx(1.0, abs=0.05)
    assert task.agreement(right, wrong, query) < 0.6
