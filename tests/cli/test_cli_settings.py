"""`vision-gateway check-settings`, and what keeps `serve` and `up` from starting."""

from __future__ import annotations

import subprocess
import sys

import pytest

from gateway import tasks

GOOD = """
[models.first]
kind = "fake"
profile = "gemma4"

[models.second]
kind = "fake"
profile = "gemma4"

[routes]
text = ["second"]
"""
CHOOSING = (
    GOOD
    + """
cheap = { models = ["first", "second"], choose = "cheapest" }
quick = { models = ["first", "second"], choose = "fastest", hedge = {} }

[routes.canary]
models = ["first", "second"]
choose = "weights"
weights = { first = 19, second = 1 }
shadow = { model = "second", share = 0.01 }

[routes.good]
models = ["first", "second"]
choose = "quality"
tolerance = 0.05
escalate = true
agreement = { share = 0.1 }
"""
)
BAD = """
[server]
grpc_adress = "127.0.0.1:1"
max_inflight = 0

[models.gemma]
kind = "triton"
keepalive_s = 1

[models.gpt]
kind = "opnai"

[models.other]
kind = "fake"
profile = "gemma4"
quality = 3

[models.slow]
kind = "fake"
profile = "gemma4"
max_inflght = 4
delay = 1

[models.reader]
kind = "fake"
profile = "gemma4"
tasks = ["OCR", "Read"]

[models.idle]
kind = "fake"
profile = "gemma4"
tasks = []
"""
BAD_PROBLEMS = {
    "server.grpc_adress: there is no such setting; did you mean grpc_address?",
    "server.max_inflight: Input should be greater than or equal to 1",
    "models.gemma.keepalive_s: Input should be greater than or equal to 10",
    "models.gpt: no backend of kind 'opnai'; there are fake, openai, triton",
    "models.other.quality.overall: Input should be less than or equal to 1",
    "models.slow.max_inflght: there is no such setting; did you mean max_inflight?",
    "models.slow.delay: there is no such setting; did you mean delay_s?",
    f"models.reader.tasks: no RPC is named Read; there are {', '.join(tasks.load())}",
    "models.idle.tasks: names no RPC; left out, it is all that the family can do",
}


@pytest.fixture
def run(tmp_path):
    """Runs the command in a process of its own, where it may start itself again."""

    def run(*arguments, **environment):
        return subprocess.run(
            [sys.executable, "-m", "gateway.cli", *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            cwd=tmp_path,
            env={"PYTHONPATH": ":".join(sys.path), "VISION_GATEWAY_LEDGER__URL": "off", **environment},
            check=False,
        )

    return run


def test_good_settings_are_called_fine_and_it_is_said_how_their_routes_choose(run, tmp_path):
    (tmp_path / "gateway.toml").write_text(CHOOSING)

    result = run("check-settings", "gateway.toml")

    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.splitlines() == [
        "gateway.toml is fine. Routes:",
        "  default: first, second, in this order",
        "  text: second",
        "  cheap: the cheapest for the call of first, second",
        "  quick: the fastest of first, second; the next model is asked too when the first one takes long",
        (
            "  canary: first for 95 % of calls, second for 5 % of calls; then first, second, in this order; "
            "1 % of calls shown to second too"
        ),
        (
            "  good: the best for the call's category of first, second, or a cheaper one within 0.05 of it; "
            "doubtful answers are passed over for the next model's; 10 % of calls compared with the next model"
        ),
    ]


@pytest.mark.parametrize(
    "command", [["check-settings", "bad.toml"], ["serve", "--settings", "bad.toml"], ["up", "--settings", "bad.toml"]]
)
def test_every_problem_is_named_at_once(run, tmp_path, command):
    (tmp_path / "bad.toml").write_text(BAD)

    result = run(*command)

    assert (result.returncode, result.stdout) == (1, "")
    assert set(result.stderr.splitlines()) == BAD_PROBLEMS


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[models", "bad.toml is not TOML: "),
        ("", "no model is configured"),
        (GOOD + 'other = ["third"]\nempty = []\n', "routes.empty names no model\nroutes.other names 'third', "),
    ],
)
def test_what_keeps_settings_from_being_read_is_named(run, tmp_path, text, problem):
    (tmp_path / "bad.toml").write_text(text)

    result = run("check-settings", "bad.toml")

    assert (result.returncode, result.stderr.startswith(problem)) == (1, True), result.stderr


def test_a_missing_file_is_named(run):
    result = run("serve", "--settings", "nowhere.toml")

    assert (result.returncode, result.stderr) == (1, "there is no settings file nowhere.toml\n")


def test_an_environment_that_cannot_be_read_is_named_without_its_value(run):
    result = run("serve", VISION_GATEWAY_MODELS="{sk-secret")

    assert result.returncode == 1
    assert 'field "models"' in result.stderr
    assert "sk-secret" not in result.stderr
    assert result.stderr.count("\n") == 1
