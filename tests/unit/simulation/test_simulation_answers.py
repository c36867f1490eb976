from __future__ import annotations

import pytest

from gateway import profiles, tasks
from gateway.settings import load
from gateway.simulation import answers
from gateway.simulation.answers import Verdict
from gateway.simulation.behaviour import Behaviour
from gateway.simulation.replay import Simulation
from gateway.simulation.scripts import Given
from gateway.simulation.trace import Call

TASKS = tasks.load()
RPCS = ("Caption", "OCR", "Detect", "Classify", "VQA")
SURE = Verdict(right=True, doubtful=False)


@pytest.mark.parametrize("family", ["gemma4", "gpt55", "embedded"])
@pytest.mark.parametrize("rpc", RPCS)
def test_the_checks_of_the_task_doubt_what_is_to_be_doubted_and_nothing_else(rpc, family):
    verdicts = [Verdict(right, doubtful) for right in (True, False) for doubtful in (True, False)]
    models = {
        name: {"kind": "fake", "profile": family, "price": "free", "retry": False} for name in ("first", "second")
    }
    settings = load(models=models, routes={"escalate": {"models": list(models), "escalate": True}})
    simulation = Simulation(settings, dict.fromkeys(models, Behaviour(right=1)), seed=1)

    replayed = simulation.replay(
        {str(number): Call(rpc=rpc) for number in range(len(verdicts))},
        Given({str(number): {"first": verdict, "second": SURE} for number, verdict in enumerate(verdicts)}),
        route="escalate",
    )

    assert [end.model for end in replayed.ends] == ["second" if each.doubtful else "first" for each in verdicts]
    assert [end.right for end in replayed.ends] == [each.doubtful or each.right for each in verdicts]


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
