from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gateway.cli import app

COMPARE = Path(__file__).parents[2] / "docs" / "compare.md"
README = Path(__file__).parents[2] / "README.md"


@pytest.fixture
def costs():
    return lambda *arguments: CliRunner().invoke(app, ["costs", *arguments])


def test_the_table_of_the_readme_is_what_the_command_prints(costs):
    printed = costs("--size", "4000x3000").stdout

    shown = [line for line in README.read_text().splitlines() if line.startswith(("| model", "| gemma", "| gpt"))]
    assert shown == [line for line in printed.splitlines() if not line.startswith("|---")]


def test_the_models_of_the_settings_are_priced_as_they_say(costs, tmp_path):
    file = tmp_path / "gateway.toml"
    file.write_text(
        '[models.own]\nkind = "triton"\nprice = { gpu_hour = "3.6", input_tokens_per_s = 1, output_tokens_per_s = 1 }'
    )

    rows = [
        line for line in costs("--settings", str(file), "--size", "640x427").stdout.splitlines() if "| own |" in line
    ]

    assert len(rows) == 6
    # 128 image tokens, the words, and 176 tokens of an answer, at a thousandth of a dollar each.
    assert rows[0].startswith("| own | Caption | **$0.3")


def test_the_table_of_the_docs_about_several_tasks_at_once_is_what_the_command_prints(costs):
    text = COMPARE.read_text()
    command = re.search(r"`vision-gateway costs (--size \d+x\d+ --together .*)`", text)[1]

    printed = costs(*command.split()).stdout.splitlines()

    shown = [line for line in text.splitlines() if line in printed]
    assert (len(printed), shown) == (4, printed)


def test_a_model_that_takes_one_task_a_call_has_no_row(costs, tmp_path):
    file = tmp_path / "gateway.toml"
    file.write_text('[models.own]\nkind = "fake"\nprofile = "embedded"\nprice = "free"')

    printed = costs("--settings", str(file), "--together", "caption", "--together", "ocr").stdout

    assert printed.splitlines()[2:] == []


@pytest.mark.parametrize("names", [["caption"], ["caption", "sing"]])
def test_one_task_is_not_several_and_an_unknown_one_is_none(costs, names):
    result = costs(*(each for name in names for each in ("--together", name)))

    assert (result.exit_code, "is two or more of caption, classify" in result.stderr) == (2, True)


@pytest.mark.parametrize("size", ["4000", "0x3", "4000x3000x2", "100000x1"])
def test_a_size_that_is_none_is_a_wrong_command(costs, size):
    result = costs("--size", size)

    assert (result.exit_code, "WIDTHxHEIGHT" in result.stderr) == (2, True)
