"""How the program starts and ends, as its own process."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys

import pytest

from gateway.cli import process

MODELS = {"m": {"kind": "fake", "profile": "gemma4"}}
FREE = ["--grpc-address", "127.0.0.1:0", "--http-address", "127.0.0.1:0"]


def start(*command, **environment):
    return subprocess.Popen(
        [sys.executable, *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": ":".join(sys.path), "VISION_GATEWAY_LEDGER__URL": "off", **environment},
    )


def said_until(running, pattern):
    for line in running.stdout:
        if found := re.search(pattern, line):
            return found
    raise AssertionError(running.stderr.read())


@pytest.fixture
def serve():
    with start("-m", "gateway.cli", "serve", *FREE, VISION_GATEWAY_MODELS=json.dumps(MODELS)) as running:
        yield running
        running.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_gateway_that_is_told_to_end_ends_with_0(serve, number):
    said_until(serve, "readyz")

    serve.send_signal(number)

    assert serve.wait(30) == 0


def test_a_gateway_says_where_it_listens_and_logs_json_to_standard_error(serve):
    address = said_until(serve, r"gRPC +(127\.0\.0\.1:\d+)").group(1)
    metrics = said_until(serve, r"metrics +http://127\.0\.0\.1:(\d+)/metrics").group(1)
    caption = start("-m", "gateway.cli", "caption", __file__, "--address", address)
    _, refused = caption.communicate(timeout=60)
    serve.terminate()
    _, logged = serve.communicate(timeout=30)

    assert (int(metrics) > 0, refused.split(":")[0]) == (True, "INVALID_IMAGE")
    assert [type(json.loads(line)) for line in logged.splitlines()] == [dict] * len(logged.splitlines())
    assert '"INVALID_IMAGE"' in logged


PROGRAM = """
import asyncio, sys
from gateway.cli import process

async def work(stop):
    print("started", flush=True)
    await stop.wait()
    print("ending", flush=True)
    await asyncio.sleep(60)

process.run(work)
"""


def test_a_second_ctrl_c_does_not_wait():
    with start("-c", PROGRAM) as running:
        said_until(running, "started")
        running.send_signal(signal.SIGINT)
        said_until(running, "ending")
        running.send_signal(signal.SIGINT)

        assert running.wait(20) != 0
        running.communicate()


def test_a_second_sigterm_changes_nothing():
    with start("-c", PROGRAM.replace("sleep(60)", "sleep(1)")) as running:
        said_until(running, "started")
        running.terminate()
        said_until(running, "ending")
        running.terminate()

        assert running.wait(20) == 0
        running.communicate()


async def test_what_is_cut_short_by_the_stop_is_told_so():
    stop = asyncio.Event()
    begun = asyncio.Event()

    async def work():
        async with process.unless(stop):
            begun.set()
            await asyncio.sleep(60)

    running = asyncio.create_task(work())
    await begun.wait()
    stop.set()

    with pytest.raises(process.Stopped):
        await running


async def test_what_ends_before_the_stop_is_left_alone():
    stop = asyncio.Event()

    async with process.unless(stop):
        pass
    stop.set()
    await asyncio.sleep(0)


async def test_a_timeout_of_the_work_itself_is_no_stop():
    with pytest.raises(TimeoutError):
        async with process.unless(asyncio.Event()):
            raise TimeoutError


def test_help_waits_for_nothing_heavy():
    code = (
        "import sys, gateway.cli; from typer.testing import CliRunner; "
        "assert CliRunner().invoke(gateway.cli.app, ['up', '--help']).exit_code == 0; "
        "print({'grpc', 'PIL', 'uvloop', 'starlette', 'aiohttp', 'openai'} & set(sys.modules))"
    )
    with start("-c", code, HOME=os.environ.get("HOME", "/")) as running:
        said, _ = running.communicate(timeout=60)

    assert said == "set()\n"


def test_the_version_is_told():
    with start("-m", "gateway.cli", "--version") as running:
        said, _ = running.communicate(timeout=60)

    assert re.fullmatch(r"vision-gateway \d+\.\d+\.\d+\S*\n", said)
