"""deploy/Dockerfile, as far as it can be checked without building it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import gateway

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "deploy" / "Dockerfile"
OURS = [DOCKERFILE, *sorted((ROOT / "deploy" / "triton").glob("Dockerfile.*"))]
HADOLINT = Path(sys.executable).with_name("hadolint")


def instructions(path):
    """Each instruction of a Dockerfile: its name, and what follows it in one line."""
    text = "\n".join(line for line in path.read_text().splitlines() if not line.startswith("#"))
    return [tuple(line.split(maxsplit=1)) for line in text.replace("\\\n", " ").splitlines() if line.strip()]


def of(name):
    return [rest for each, rest in instructions(DOCKERFILE) if each == name]


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.name)
def test_hadolint_has_nothing_to_warn_of(path):
    linted = subprocess.run(
        [HADOLINT, "--failure-threshold", "warning", "--format", "json", path],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert [each for each in json.loads(linted.stdout) if each["level"] in {"error", "warning"}] == []


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.name)
def test_what_is_copied_from_the_project_is_tracked(path):
    tracked = subprocess.run(
        ["git", "ls-files"],  # noqa: S607  any git will do
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
        timeout=30,
    ).stdout.splitlines()
    copied = [rest.split()[:-1] for name, rest in instructions(path) if name == "COPY" and "--from" not in rest]

    for source in (each for sources in copied for each in sources):
        assert any(file == source or file.startswith(f"{source}/") for file in tracked), source


def test_all_that_is_installed_is_locked():
    installed = [each for run in of("RUN") for each in run.split("&&") if "pip" in each and " install " in each]

    for command in installed:
        assert "--no-deps" in command
        # The project itself was built a line above.
        assert "--require-hashes" in command or command.split()[-1] == "wheels/*.whl"
    assert {lock for command in installed for lock in re.findall(r"requirements/\w+\.lock", command)} == {
        "requirements/server.lock",
        "requirements/build.lock",
    }


@pytest.mark.parametrize("name", ["server", "build"])
def test_the_locks_of_the_image_have_what_development_has(name):
    pins = lambda lock: set(re.findall(r"^\S+==\S+", (ROOT / "requirements" / lock).read_text(), re.MULTILINE))  # noqa: E731  twice

    assert pins(f"{name}.lock") <= pins("development.lock")


def test_it_runs_as_nobody_of_note_and_needs_no_shell():
    assert of("USER") == ["10001:10001"]
    assert of("STOPSIGNAL") == ["SIGTERM"]
    assert json.loads(of("ENTRYPOINT")[0]) == ["vision-gateway"]
    assert json.loads(of("CMD")[0]) == ["serve", "--settings", "/etc/vision-gateway/gateway.toml"]
    assert json.loads(of("HEALTHCHECK")[0].split("CMD ")[1]) == ["vision-gateway", "models"]


def test_its_label_has_the_version():
    assert f'org.opencontainers.image.version="{gateway.__version__}"' in of("LABEL")[0]
