"""`vision-gateway serve` as an operator changes its settings: a process, its file, and signals."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from tests.fixtures.settings_file import as_toml, script, with_ports

SERVE = [str(Path(sys.executable).parent / "vision-gateway"), "serve", "--settings"]
PHOTO = Path(__file__).parents[1] / "photos" / "coffee.png"


class Serving:
    """The process, and what it logged about settings so far."""

    def __init__(self, path, **tables):
        self.path = path
        self.write(**tables)
        self.process = subprocess.Popen(
            [*SERVE, path], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ)
        )
        for line in self.process.stdout:
            if found := re.search(r"gRPC +(127\.0\.0\.1:\d+)", line):
                self.address = found.group(1)
            if "ready?" in line:
                break

    def write(self, **tables):
        new = self.path.with_suffix(".new")
        new.write_text(as_toml(with_ports(tables)))
        new.replace(self.path)

    def told(self):
        """The next line of the log about settings."""
        for line in self.process.stderr:
            if '"settings_reload"' in line:
                return json.loads(line)
        raise AssertionError("it ended")

    def caption(self):
        """Who answers, as the command line says."""
        ended = subprocess.run(
            [SERVE[0], "caption", PHOTO, "--address", self.address, "--json"],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        return json.loads(ended.stdout)["info"]["model"]


@pytest.fixture
def serve(tmp_path):
    running = []

    def start(**tables):
        running.append(Serving(tmp_path / "gateway.toml", **tables))
        return running[-1]

    yield start
    for each in running:
        with each.process:
            each.process.kill()


def test_sighup_has_the_file_read_again_and_a_wrong_one_refused(serve):
    gateway = serve(models={"one": script()})
    gateway.write(models={"two": script()})
    gateway.process.send_signal(signal.SIGHUP)
    applied = gateway.told()
    answered_by = gateway.caption()

    gateway.write(models={"three": script(price="dear")})
    gateway.process.send_signal(signal.SIGHUP)
    refused = gateway.told()
    still = gateway.caption()
    gateway.process.terminate()

    assert (applied["outcome"], applied["trigger"], answered_by) == ("applied", "signal", "two")
    assert (refused["outcome"], still) == ("refused", "two")
    assert gateway.process.wait(30) == 0


def test_a_changed_file_is_read_without_being_told_and_the_environment_still_wins(serve, monkeypatch):
    monkeypatch.setenv("VISION_GATEWAY_ROUTES__DEFAULT", '["one"]')
    gateway = serve(models={"one": script(), "two": script()}, server={"reload": "auto"})

    gateway.write(
        models={"one": script(), "two": script()}, routes={"default": ["two"], "x": ["two"]}, server={"reload": "auto"}
    )
    line = gateway.told()

    assert (line["outcome"], line["trigger"], line["changed"]) == ("applied", "file", {"routes.x": "added"})
    assert gateway.caption() == "one"


def test_a_gateway_whose_terminal_is_closed_ends(tmp_path):
    path = tmp_path / "gateway.toml"
    path.write_text(as_toml(with_ports({"models": {"one": script()}})))
    terminal = [sys.executable, "-c", "import pty, sys; pty.spawn(sys.argv[1:])"]
    with subprocess.Popen(
        [*terminal, *SERVE, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as running:
        for line in running.stdout:
            if "ready?" in line:
                break
        (gateway,) = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()
        os.kill(int(gateway), signal.SIGHUP)
        told = next(line for line in running.stdout if '"settings_reload"' in line)
        running.kill()
        ended = subprocess.run(
            ["timeout", "30", "tail", f"--pid={gateway}", "-f", "/dev/null"],  # noqa: S607  coreutils
            check=False,
        )
        with suppress(ProcessLookupError):
            os.kill(int(gateway), signal.SIGKILL)

    assert json.loads(told)["outcome"] == "unchanged"
    assert ended.returncode == 0
