"""`vision-gateway up` as a newcomer runs it: a process, its output, its end."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.fixtures.pki import Authority

PHOTO = Path(__file__).parents[1] / "photos" / "coffee.png"
COMMAND = [str(Path(sys.executable).parent / "vision-gateway"), "up"]
FREE = ["--grpc-address", "127.0.0.1:0", "--http-address", "127.0.0.1:0"]


def children(pid):
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def alive(pid):
    return Path(f"/proc/{pid}").exists() and "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()


@pytest.fixture
def up():
    environment = {name: value for name, value in os.environ.items() if name != "OPENAI_API_KEY"}
    process = subprocess.Popen(
        [*COMMAND, *FREE], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    )
    with process:
        yield process
        process.kill()


def read_until(process, pattern):
    said = ""
    for line in process.stdout:
        said += line
        if re.search(pattern, line):
            return said
    if "Triton cannot run here" in said:
        pytest.skip(said)
    raise AssertionError(said)


def test_five_answers_then_it_serves_then_it_ends_clean(up):
    said = read_until(up, r"stop +Ctrl-C")

    for rpc, answer in {
        "Caption": "The picture shows a cat",
        "OCR": r"OCR +│",
        "Detect": r"cat 0\.9\d +x 0\.0\d\d-0\.9\d\d",
        "Classify": "Egyptian cat",
        "VQA": "1 cat",
    }.items():
        assert re.search(rf"{rpc}\b", said), said
        assert re.search(answer, said), said
    assert said.count("│ embedded │") == 5
    assert said.count("$0 ") == 5
    (url,) = re.findall(r"ready\? +(http://127\.0\.0\.1:\d+/readyz)", said)
    with urllib.request.urlopen(url, timeout=10) as response:  # noqa: S310  our own
        assert response.status == 200
    tree = children(up.pid)
    assert tree

    up.send_signal(signal.SIGTERM)

    assert up.wait(30) == 0
    assert [pid for pid in tree if alive(pid)] == []


@pytest.fixture
def settings_with_tls(tmp_path):
    """A file of settings that asks callers for certificates; beside it are their names for people."""
    authority = Authority()
    for name, leaf in {"tls": authority.server(), "ME": authority.caller("me.example.org")}.items():
        (tmp_path / f"{name}.crt").write_bytes(leaf.cert)
        (tmp_path / f"{name}.key").write_bytes(leaf.key)
    (tmp_path / "CA.crt").write_bytes(authority.pem)
    path = tmp_path / "gateway.toml"
    path.write_text(
        f'[server.tls]\ncert = "{tmp_path}/tls.crt"\nkey = "{tmp_path}/tls.key"\n'
        f'client_ca = "{tmp_path}/CA.crt"\nclient_auth = "require"\n'
    )
    return path


def test_the_commands_that_it_says_to_try_work_over_tls(settings_with_tls):
    program = shutil.which("grpcurl", path=f"{Path(sys.executable).parent}") or shutil.which("grpcurl")
    if program is None:
        pytest.skip("grpcurl is not installed")
    environment = {name: value for name, value in os.environ.items() if name != "OPENAI_API_KEY"}
    with subprocess.Popen(
        [*COMMAND, *FREE, "--settings", settings_with_tls],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
    ) as up:
        said = read_until(up, r"stop +Ctrl-C")
        (ours, theirs) = re.search(r"try it +(.*)\n +(.*)\n", said).groups()
        commands = [ours.replace("PHOTO.jpg", str(PHOTO)), theirs.replace("grpcurl", program, 1)]
        answers = [
            subprocess.run(
                shlex.split(each), capture_output=True, text=True, timeout=60, cwd=settings_with_tls.parent, check=True
            ).stdout
            for each in commands
        ]
        up.send_signal(signal.SIGTERM)
        assert up.wait(30) == 0

    assert "coffee" in answers[0] or "cup" in answers[0]
    assert "visiongateway.v1.VisionService" in answers[1]
    assert "UNAVAILABLE" not in said


def test_it_ends_clean_also_while_triton_loads(up):
    read_until(up, "Triton is loading")
    tree = children(up.pid)
    assert tree

    up.send_signal(signal.SIGTERM)

    assert up.wait(30) == 0
    assert [pid for pid in tree if alive(pid)] == []


def test_a_killed_gateway_leaves_no_triton_behind(up):
    read_until(up, r"stop +Ctrl-C")
    tree = children(up.pid)

    up.kill()
    up.wait(30)

    for pid in tree:
        # The kernel tells them that their parent is gone; Triton then unloads its models.
        subprocess.run(["timeout", "30", "tail", f"--pid={pid}", "-f", "/dev/null"], check=True)  # noqa: S607  coreutils
    assert [pid for pid in tree if alive(pid)] == []


def test_a_port_that_is_taken_is_told_in_one_line(up):
    said = read_until(up, r"stop +Ctrl-C")
    (address,) = re.findall(r"gRPC +(127\.0\.0\.1:\d+)", said)
    serve = [COMMAND[0], "serve", "--grpc-address", address, "--http-address", "127.0.0.1:0"]
    environment = {**os.environ, "VISION_GATEWAY_MODELS": '{"m": {"kind": "fake", "profile": "gemma4"}}'}

    second = subprocess.run(serve, capture_output=True, text=True, timeout=60, env=environment, check=False)

    assert second.returncode == 1
    assert second.stderr.splitlines()[-1] == f"cannot listen on {address} for gRPC: is the port taken?"
    assert "Traceback" not in second.stderr


def test_where_triton_cannot_run_one_sentence_says_so(tmp_path):
    # As if the wheel that has Triton were not installed.
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.util as util\n"
        "real = util.find_spec\n"
        "util.find_spec = lambda name, package=None: None if name == 'pytriton' else real(name, package)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-m", "gateway.cli", "up", *FREE],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        check=False,
    )

    assert ended.returncode == 1
    (line,) = ended.stderr.strip().splitlines()
    assert "container" in line
