"""The launcher, with a real Triton and a model that does nothing, so that it starts at once."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import grpc
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from gateway.tritonserver import TritonFailed, TritonUnavailable, embedded_triton, installation
from tests.fixtures.triton import running

MODEL = """\
import os, sys
import numpy
class TritonPythonModel:
    def initialize(self, args):
        print("sees", sys.prefix, sorted(os.environ), flush=True)
        {initialize}
    def execute(self, requests):
        return []
"""
CONFIG = """\
name: "idle"
backend: "python"
max_batch_size: 0
input [ { name: "in", data_type: TYPE_BOOL, dims: [ 1 ] } ]
output [ { name: "out", data_type: TYPE_BOOL, dims: [ 1 ] } ]
instance_group [ { kind: KIND_CPU } ]
"""


@pytest.fixture(scope="module", autouse=True)
def _needs_triton():
    try:
        installation.find()
    except TritonUnavailable as error:
        pytest.skip(str(error))


def repository(folder, initialize="pass"):
    version = folder / "idle/1"
    version.mkdir(parents=True)
    (version / "model.py").write_text(MODEL.format(initialize=initialize))
    (version.parent / "config.pbtxt").write_text(CONFIG)
    return folder


@pytest.fixture
def idle(tmp_path):
    return {"repository": repository(tmp_path / "repository"), "models": ("idle",)}


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def stub_of(pid):
    (stub,) = [
        child
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        if Path(f"/proc/{child}/comm").read_text().startswith("triton_python")
    ]
    return int(stub)


async def until(is_so):
    async with asyncio.timeout(60):
        while not is_so():  # noqa: ASYNC110  the kernel tells nobody
            await asyncio.sleep(0.02)


async def is_ready(address):
    async with grpc.aio.insecure_channel(address) as channel:
        server = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        return (await server.ModelReady(service_pb2.ModelReadyRequest(name="idle"), timeout=5)).ready


async def test_a_triton_is_ready_when_entered_and_leaves_nothing_behind(idle):
    waits = []
    async with embedded_triton(**idle, waiting=waits.append) as triton:
        assert await is_ready(triton.grpc_address)
        processes = [triton.pid, stub_of(triton.pid)]
        regions = region_of(triton.pid)
        assert shared_memory(regions)

    assert waits == sorted(waits) != []
    assert [alive(pid) for pid in processes] == [False, False]
    assert shared_memory(regions) == []


def region_of(pid):
    """Gives how the names of this Triton's regions begin: others may run beside it."""
    (prefix,) = re.findall(r"shm-region-prefix-name=(vision_gateway_\w+)", Path(f"/proc/{pid}/cmdline").read_text())
    return prefix


def shared_memory(prefix):
    return [path.name for path in Path("/dev/shm").glob(f"{prefix}*")]  # noqa: S108  Triton's own place


async def test_what_only_an_operator_would_do_is_refused(idle):
    async with embedded_triton(**idle) as triton, grpc.aio.insecure_channel(triton.grpc_address) as channel:
        server = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        calls = [
            server.RepositoryModelUnload(service_pb2.RepositoryModelUnloadRequest(model_name="idle")),
            server.SystemSharedMemoryStatus(service_pb2.SystemSharedMemoryStatusRequest()),
            server.LogSettings(service_pb2.LogSettingsRequest()),
            server.TraceSetting(service_pb2.TraceSettingRequest()),
        ]

        failures = await asyncio.gather(*calls, return_exceptions=True)

        assert ["restricted" in failure.details() for failure in failures] == [True] * 4


async def test_triton_gets_this_interpreter_and_nothing_secret(idle, monkeypatch, tmp_path):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    # Libraries that would be taken for its own, if it took any.
    for name in ("libstdc++.so.6", f"libpython{sys.version_info.major}.{sys.version_info.minor}.so.1.0"):
        (tmp_path / name).write_bytes(b"no library")
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    lines = []

    async with embedded_triton(**idle, log=lines.append):
        pass

    (seen,) = [line for line in lines if line.startswith("sees ")]
    assert seen.split()[1] == sys.prefix
    assert "OPENAI_API_KEY" not in seen


async def test_a_triton_that_cannot_load_its_model_fails_with_the_end_of_its_log(tmp_path):
    broken = repository(tmp_path, initialize="raise ValueError('no such weights')")

    with pytest.raises(TritonFailed, match=r"status 1 before it was ready(.|\n)*no such weights"):
        async with embedded_triton(repository=broken, models=("idle",)):
            pass


async def test_a_triton_that_is_not_ready_in_time_is_stopped(tmp_path):
    slow = repository(tmp_path, initialize="import time; time.sleep(60)")

    with pytest.raises(TritonFailed, match=r"not ready within 0\.5 s"):
        async with embedded_triton(repository=slow, models=("idle",), ready_timeout_s=0.5):
            pass

    assert stubs_in(tmp_path) == []


def stubs_in(folder):
    found = []
    for cmdline in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(folder).encode() in cmdline.read_bytes():
                found.append(cmdline)
        except OSError:
            continue
    return found


async def test_corrupt_weights_keep_the_embedded_model_from_being_served(monkeypatch, tmp_path):
    monkeypatch.setenv("VISION_GATEWAY_MODEL_DIR", str(tmp_path))
    (tmp_path / "PP-OCRv6_det_small.onnx").write_bytes(b"tampered")

    with pytest.raises(TritonFailed, match=r"PP-OCRv6_det_small\.onnx is not the file that was tested"):
        async with embedded_triton():
            pass


async def test_a_model_that_is_not_in_the_repository_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no model gemma5 in"):
        async with embedded_triton(repository=tmp_path, models=("gemma5",)):
            pass


@pytest.mark.parametrize("victim", ["server", "model"])
async def test_a_supervised_triton_is_started_again_at_the_same_address(idle, victim):
    exits = []
    async with embedded_triton(**idle, supervise=True, on_exit=exits.append) as triton:
        first = triton.pid
        os.kill(first if victim == "server" else stub_of(first), signal.SIGKILL)

        await until(lambda: triton.pid != first)

        assert await is_ready(triton.grpc_address)
        assert exits == [{"server": "it ended with status -9", "model": "the process of a model died"}[victim]]
        assert not alive(first)


async def test_without_supervision_a_triton_that_was_killed_stays_dead(idle):
    async with embedded_triton(**idle) as triton:
        os.kill(triton.pid, signal.SIGKILL)
        await until(lambda: not alive(triton.pid))

        with pytest.raises(grpc.aio.AioRpcError):
            await is_ready(triton.grpc_address)


async def test_a_gateway_that_is_killed_takes_its_triton_along(idle, tmp_path):
    program = f"""
import asyncio
from pathlib import Path
from gateway.tritonserver import embedded_triton
async def main():
    async with embedded_triton(repository=Path({str(idle["repository"])!r}), models=("idle",)) as triton:
        print(triton.pid, flush=True)
        await asyncio.Event().wait()
asyncio.run(main())
"""
    gateway = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, stdout=subprocess.PIPE, env=os.environ | {"TMPDIR": str(tmp_path)}
    )
    pid = int(await gateway.stdout.readline())
    processes = [pid, stub_of(pid)]

    gateway.kill()
    await gateway.wait()

    await until(lambda: not any(alive(each) for each in processes))


def test_a_triton_can_be_run_beside_another(idle):
    with running(**idle) as first, running(**idle) as second:
        assert len({*vars_of(first.ports), *vars_of(second.ports)}) == 6


def vars_of(ports):
    return ports.grpc, ports.http, ports.metrics
