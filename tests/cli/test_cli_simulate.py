"""`vision-gateway simulate`, and what the documents say of it."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gateway.cli import app, process
from gateway.simulation.behaviour import Behaviour
from gateway.simulation.trace import Call

ROOT = Path(__file__).parents[2]
SETTINGS = ROOT / "deploy" / "simulation.toml"
ROUTING = (ROOT / "docs" / "routing.md").read_text()


@pytest.fixture
def simulate(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments, settings=SETTINGS):
        return CliRunner().invoke(app, ["simulate", "--settings", str(settings), *map(str, arguments)])

    return run


def problems(result):
    assert isinstance(result.exception, process.CannotStart)
    return list(result.exception.lines)


def shown(text):
    """Commands of `simulate` that print Markdown, each with the table that follows it."""
    found = re.findall(r"\$ (vision-gateway simulate .*?)\n```\n\n(\|.*?)\n\n", text, re.DOTALL)
    return [(shlex.split(command.replace("\\\n", " "))[1:], table.splitlines()) for command, table in found]


@pytest.mark.parametrize(("command", "table"), shown(ROUTING), ids=["routes", "noticed", "alike"])
def test_the_tables_of_the_page_about_routing_are_what_the_commands_print(command, table, monkeypatch):
    monkeypatch.chdir(ROOT)

    assert CliRunner().invoke(app, command).stdout.splitlines() == table


def test_the_published_comparison_comes_out_in_expectation(simulate):
    found = json.loads(simulate("--route", "gemma-only", "--route", "gpt-only", "--calls", 67, "--json").stdout)

    figures = [(each["expected_share_right"], each["expected_cost_nano_usd_per_1000_calls"]) for each in found]
    assert figures == [(46 / 67, 88_260_000.0), (52 / 67, 11_140_000_000.0)]


def test_the_other_routes_cost_what_they_must(simulate):
    found = json.loads(simulate("--route", "by-category", "--route", "escalate", "--calls", 67, "--json").stdout)

    # 38 prompts of the categories in which Gemma is nearly as good, 12 + 8 + 12 right; 29 of the others, 3 + 15 right.
    assert found[0]["expected_share_right"] == 50 / 67
    assert found[0]["expected_cost_nano_usd_per_1000_calls"] == pytest.approx(
        (38 * 88_260 + 29 * 11_140_000) * 1000 / 67
    )
    # A quarter of 21 wrong answers goes on to the other model, at its price.
    assert found[1]["expected_cost_nano_usd_per_1000_calls"] == pytest.approx(
        1000 * (88_260 + 11_140_000 * 21 / 67 / 4)
    )


def test_the_table_names_every_route_that_was_tried(simulate):
    printed = simulate("--route", "gemma-only", "--route", "escalate", "--calls", 20).stdout

    assert ("gemma-only" in printed, "escalate" in printed, "gpt-only" in printed) == (True, True, False)


def test_recorded_calls_go_where_they_say(simulate, tmp_path):
    trace = tmp_path / "calls.jsonl"
    trace.write_text('{"route": "gpt-only", "rpc": "OCR", "width": 800, "height": 600}\n{"rpc": "Caption"}\n')

    [found] = json.loads(simulate("--trace", trace, "--json").stdout)

    assert (found["route"], found["calls"], found["answered_by"]) == (
        "(as called)",
        2,
        {"gemma-4-26b-a4b": 1, "gpt-5.5": 1},
    )


def test_models_behave_as_a_file_says(simulate, tmp_path):
    models = tmp_path / "models.toml"
    models.write_text('["gpt-5.5"]\nfailures = 1.0\n')

    [found] = json.loads(
        simulate("--models", models, "--route", "gpt-only", "--calls", 3, "--rate", 0.01, "--json").stdout
    )

    assert (found["answered"], found["failures"]) == (0, {"BACKEND_UNAVAILABLE": 3})


def test_a_bad_trace_is_told_by_the_number_of_its_line(simulate, tmp_path):
    trace = tmp_path / "calls.jsonl"
    trace.write_text('{"rpc": "OCR"}\n{"rpc": "Dream"}\n')

    [line] = problems(simulate("--trace", trace))

    assert line.startswith(f"{trace}: line 2: rpc: ")


def test_a_bad_file_of_models_is_told_by_the_wrong_value(simulate, tmp_path):
    models = tmp_path / "models.toml"
    models.write_text('["gpt-5.5"]\ncapacity = 0\n')

    [line] = problems(simulate("--models", models))

    assert line.startswith("gpt-5.5.capacity: ")


def test_a_route_that_is_none_is_a_wrong_command(simulate):
    result = simulate("--route", "none")

    assert (result.exit_code, "gemma-only" in result.stderr) == (2, True)


@pytest.mark.parametrize(("heading", "table"), [("## Calls", Call), ("## Models", Behaviour)])
def test_every_field_of_a_trace_and_of_models_is_documented_and_no_other(heading, table):
    text = (ROOT / "docs" / "simulator.md").read_text().split(f"{heading}\n", 1)[1].split("\n## ", 1)[0]
    cells = re.findall(r"^\| ([^|]*) \|", text, re.MULTILINE)

    assert {name for cell in cells for name in re.findall(r"`([a-z_]+)`", cell)} == set(table.model_fields)
