from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from gateway.cli import app

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


@pytest.mark.parametrize("size", ["4000", "0x3", "4000x3000x2", "100000x1"])
def test_a_size_that_is_none_is_a_wrong_command(costs, size):
    result = costs("--size", size)

    assert (result.exit_code, "WIDTHxHEIGHT" in result.stderr) == (2, True)
