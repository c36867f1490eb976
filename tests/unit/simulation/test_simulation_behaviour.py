from __future__ import annotations

from fractions import Fraction

import pytest

from gateway.simulation import behaviour
from gateway.simulation.behaviour import BadBehaviour

FAMILIES = {"own": "gemma4", "strange": "embedded"}


@pytest.fixture
def file(tmp_path):
    def write(text):
        path = tmp_path / "models.toml"
        path.write_text(text)
        return path

    return write


def test_a_file_changes_what_is_known_of_the_family_and_nothing_else(file):
    read = behaviour.read(file("[own]\nright = { counting = 0.3 }\nfailures = 0.01"), {"own": "gemma4"})["own"]

    known = behaviour.DEFAULTS["gemma4"]
    assert (read.share_right("counting"), read.share_right("defect")) == (Fraction(3, 10), Fraction(12, 15))
    assert (read.failures, read.output_tokens, read.seconds) == (0.01, known.output_tokens, known.seconds)


def test_shares_are_exact():
    assert behaviour.DEFAULTS["gpt55"].share_right("music") == Fraction(52, 67)


def test_a_family_nobody_measured_must_be_described(file):
    with pytest.raises(BadBehaviour) as caught:
        behaviour.of_families(FAMILIES)

    assert caught.value.problems == [
        "strange: nothing is known of the family embedded: give its share of `right` answers"
    ]
    assert behaviour.read(file("[strange]\nright = 0.5"), FAMILIES)["strange"].share_right("any") == Fraction(1, 2)


def test_every_problem_of_a_file_is_named(file):
    text = "[none]\n[own]\nright = { overall = 1.5 }\ncapacity = 0\n[strange]\nright = { counting = 0.5 }\nspeed = 3"

    with pytest.raises(BadBehaviour) as caught:
        behaviour.read(file(text), FAMILIES)

    assert [line.rpartition(":")[0] for line in caught.value.problems] == [
        "none",
        "own.right.overall",
        "own.capacity",
        "strange.right",
        "strange.speed",
    ]


def test_a_file_that_is_no_toml_is_said_to_be_none(file):
    with pytest.raises(BadBehaviour, match="is not TOML"):
        behaviour.read(file("own = {"), FAMILIES)


def test_what_is_misspelt_is_told_with_what_there_is(file):
    with pytest.raises(BadBehaviour) as caught:
        behaviour.read(file("[onw]\n[own]\nrigth = 0.5\n[strange]\nright = 0.5"), FAMILIES)

    assert caught.value.problems == [
        "onw: the settings have no such model; they have own, strange",
        "own.rigth: there is no such setting; did you mean right?",
    ]
