from __future__ import annotations

from collections import Counter

import pytest

from gateway.simulation import trace
from gateway.simulation.trace import BadTrace, Call


@pytest.fixture
def problems(tmp_path):
    def read(text):
        file = tmp_path / "calls.jsonl"
        file.write_text(text)
        with pytest.raises(BadTrace) as caught:
            trace.read(file)
        return caught.value.problems

    return read


def test_calls_are_read_with_defaults_and_put_in_the_order_of_time(tmp_path):
    file = tmp_path / "calls.jsonl"
    file.write_text('{"at_s": 2, "rpc": "Detect", "width": 640, "height": 480, "urgency": "bulk"}\n\n{"at_s": 1}\n')

    assert trace.read(file) == [
        Call(at_s=1.0, rpc="VQA", deadline_s=60.0),
        Call(at_s=2.0, rpc="Detect", width=640, height=480, urgency="bulk"),
    ]


def test_every_bad_line_is_named_by_its_number(problems):
    found = problems('{"at_s": 0}\n{"rpc": "Dream"}\nnot json\n{"at_s": -1, "hight": 3}\n')

    assert [line.split(":")[:2] for line in found] == [
        ["line 2", " rpc"],
        ["line 3", " Invalid JSON"],
        ["line 4", " at_s"],
        ["line 4", " hight"],
    ]


def test_a_trace_without_calls_is_none(problems):
    assert problems("\n") == ["there is no call in it"]


def test_made_up_calls_have_the_published_mix_of_categories():
    made = trace.synthetic(2 * 67, per_s=1, seed=1)

    assert Counter(call.category for call in made) == {
        "defect": 30,
        "document": 18,
        "counting": 20,
        "object": 28,
        "spatial": 38,
    }


def test_made_up_calls_come_at_the_rate_asked_for_and_in_order():
    times = [call.at_s for call in trace.synthetic(10_000, per_s=20, seed=1)]

    assert times == sorted(times)
    # 10,000 / 20 s, and a standard deviation of a hundredth of that.
    assert times[-1] == pytest.approx(500, abs=20)


def test_equal_seeds_make_up_equal_calls_and_others_other_ones():
    first, again, other = (trace.synthetic(100, per_s=1, seed=seed) for seed in (1, 1, 2))

    assert (first == again, first == other) == (True, False)


def test_a_misspelt_field_is_told_with_the_name_it_is_most_like(problems):
    assert problems('{"categry": "counting"}') == ["line 1: categry: there is no such field; did you mean category?"]
