"""Streams of `vision-gateway serve` while it is told to read its settings again, and to end."""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import grpc
import pytest
from grpc import StatusCode
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.fixtures.settings_file import as_toml, script, with_ports
from tests.fixtures.streams import Speech, caption, on_triton, read
from visiongateway.v1 import vision_service_pb2_grpc

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
SERVE = str(Path(sys.executable).parent / "vision-gateway"), "serve", "--settings"


class Serving:
    """The process, its settings, and stubs that talk to it."""

    def __init__(self, path, process, channel):
        self.process = process
        self.stub = vision_service_pb2_grpc.VisionServiceStub(channel)
        self.health = health_pb2_grpc.HealthStub(channel)
        self._path = path

    async def reload(self, **tables):
        """Gives it other settings; returns when it goes by them."""
        self._path.write_text(as_toml(with_ports(tables)))
        self.process.send_signal(signal.SIGHUP)
        while b'"settings_reload"' not in (line := await self.process.stderr.readline()):
            assert line, "it ended"


@pytest.fixture
async def serve(tmp_path):
    async with AsyncExitStack() as stack:

        async def start(**tables):
            path = tmp_path / "gateway.toml"
            path.write_text(as_toml(with_ports(tables)))
            process = await asyncio.create_subprocess_exec(
                *SERVE, path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, limit=1 << 20
            )

            async def end():
                if process.returncode is None:
                    process.kill()
                await process.communicate()

            stack.push_async_callback(end)
            async for line in process.stdout:
                if found := re.search(rb"gRPC +(127\.0\.0\.1:\d+)", line):
                    break
            channel = await stack.enter_async_context(grpc.aio.insecure_channel(found[1].decode()))
            return Serving(path, process, channel)

        yield start


async def test_a_stream_ends_with_the_settings_that_it_began_with(serve, kserve):
    kserve.script = speech = Speech("A ", "cat.")
    gateway = await serve(models={"old": on_triton(kserve.address)})
    messages = aiter(gateway.stub.StreamCaption(caption(), timeout=60))
    first = await anext(messages)

    await gateway.reload(models={"new": script(answer="A teal surface.")})
    _, of_new, _ = await read(gateway.stub.StreamCaption(caption(), timeout=60))
    speech.go_on.set()
    _, of_old, _ = await read(messages)

    assert (first.delta, of_old.text, of_old.info.model) == ("A", "A cat.", "old")
    assert (of_new.text, of_new.info.model) == ("A teal surface.", "new")


async def test_sigterm_lets_streams_end_within_the_grace(serve, kserve):
    kserve.script = speech = Speech("A ", "cat.")
    server = {"drain_wait_s": 0, "grace_s": 30}
    gateway = await serve(models={"gemma": on_triton(kserve.address)}, server=server)
    messages = aiter(gateway.stub.StreamCaption(caption(), timeout=60))
    await anext(messages)
    watching = gateway.health.Watch(health_pb2.HealthCheckRequest())
    while (await watching.read()).status != SERVING:
        pass

    gateway.process.terminate()
    while (await watching.read()).status != NOT_SERVING:
        pass
    speech.go_on.set()
    deltas, answer, failed = await read(messages)

    assert (deltas, answer.text, failed) == ([" cat."], "A cat.", None)
    assert await asyncio.wait_for(gateway.process.wait(), 30) == 0


async def test_what_is_left_of_a_stream_when_the_grace_is_over_goes_elsewhere(serve, kserve):
    kserve.script = Speech("A ", "never said")
    server = {"drain_wait_s": 0, "grace_s": 0.5}
    gateway = await serve(models={"gemma": on_triton(kserve.address)}, server=server)
    messages = aiter(gateway.stub.StreamCaption(caption(), timeout=60))
    await anext(messages)

    gateway.process.terminate()
    deltas, answer, failed = await read(messages)

    assert (deltas, answer) == ([], None)
    assert (failed.code, failed.reason) == (StatusCode.UNAVAILABLE, "DRAINING")
    assert failed.info.metadata["partial"] == "true"
    assert await asyncio.wait_for(gateway.process.wait(), 30) == 0
