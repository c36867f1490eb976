"""A real Triton as operators run their own, under explicit model control, that can be killed, frozen and restarted."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import grpc
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2, service_pb2, service_pb2_grpc

from gateway.tritonserver import installation
from tests.fixtures.kserve import contract_config

MODEL, STRANGER = "gemma4", "stranger"
_TIED = Path(installation.__file__).with_name("_tied.py")
_PATIENCE_S = 60
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  where Triton's Python backend keeps its regions


class Triton:
    """One tritonserver with two models: one keeps the gateway's contract, the stranger has a tensor of another name."""

    def __init__(self, layout, ports, log):
        self._layout = layout
        self._ports = ports
        self._log = log
        self._process = None
        self._region = f"failover_{ports[0]}_"
        self.address = f"127.0.0.1:{ports[0]}"

    async def start(self):
        """Starts it where it always is, unless it runs; returns when both models are ready."""
        if self._process is None or self._process.poll() is not None:
            with self._log.open("ab") as log:
                self._process = subprocess.Popen(  # noqa: ASYNC220  it returns once it has forked
                    self._command(), stdout=log, stderr=log, env=self._layout.environment, start_new_session=True
                )
        await self.until_ready(MODEL, STRANGER)

    async def until_ready(self, *models):
        async with self._server() as server, asyncio.timeout(_PATIENCE_S):
            while not await _ready(server, models):
                if self._process.poll() is not None:
                    raise RuntimeError(f"Triton did not start:\n{self._log.read_text()[-2000:]}")
                await asyncio.sleep(0.02)

    def kill(self):
        """Ends it as a crash would, with all of its processes."""
        stubs = self.stubs()
        self._process.kill()
        self._process.wait()
        for stub in stubs:
            with suppress(ProcessLookupError):
                os.kill(stub, signal.SIGKILL)
        self._process = None

    def end(self):
        """Ends it as an operator would."""
        if self._process is not None:
            self.signal(signal.SIGCONT)
            self._process.terminate()
            self._process.wait()
            self._process = None
        # One that was killed left it.
        for left in _SHARED_MEMORY.glob(f"{self._region}*"):
            left.unlink(missing_ok=True)

    def signal(self, number):
        """Sends a signal to tritonserver."""
        self._process.send_signal(number)

    def stubs(self):
        """Process ids of its models."""
        if self._process.poll() is not None:
            return []
        pid = self._process.pid
        children = map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
        return [child for child in children if Path(f"/proc/{child}/comm").read_text().startswith("triton_python")]

    async def load(self, model):
        """Loads a model, anew if it is there."""
        async with self._server() as server:
            await server.RepositoryModelLoad(
                service_pb2.RepositoryModelLoadRequest(model_name=model), timeout=_PATIENCE_S
            )

    async def unload(self, model):
        """Unloads a model; returns when it is gone."""
        async with self._server() as server:
            await server.RepositoryModelUnload(
                service_pb2.RepositoryModelUnloadRequest(model_name=model), timeout=_PATIENCE_S
            )
            async with asyncio.timeout(_PATIENCE_S):
                while await _ready(server, [model]):  # noqa: ASYNC110  no event of this process tells
                    await asyncio.sleep(0.02)

    def hang(self, *, hangs):
        """Makes the model's code wait, or go on."""
        flag = self._layout.repository / MODEL / "hang"
        if hangs:
            flag.touch()
        else:
            flag.unlink()

    def asked(self):
        """Counts the questions that the model has ever been asked."""
        journal = self._layout.repository / MODEL / "asked"
        return len(journal.read_text().splitlines()) if journal.exists() else 0

    def _server(self):
        return _Server(self.address)

    def _command(self):
        grpc_port, http_port, metrics_port = self._ports
        return [
            *(sys.executable, "-I", "-S", str(_TIED), str(os.getpid()), str(self._layout.server)),
            f"--model-repository={self._layout.repository}",
            f"--backend-directory={self._layout.backends}",
            f"--backend-config=python,shm-region-prefix-name={self._region}",
            "--disable-auto-complete-config",
            "--model-control-mode=explicit",
            *(f"--load-model={model}" for model in (MODEL, STRANGER)),
            "--exit-timeout-secs=1",
            *("--grpc-address=127.0.0.1", f"--grpc-port={grpc_port}"),
            *("--http-address=127.0.0.1", f"--http-port={http_port}"),
            *("--metrics-address=127.0.0.1", f"--metrics-port={metrics_port}", "--allow-gpu-metrics=false"),
            "--pinned-memory-pool-byte-size=0",
        ]


class _Server:
    """A stub on a channel of its own."""

    def __init__(self, address):
        self._channel = grpc.aio.insecure_channel(address, [("grpc.max_reconnect_backoff_ms", 100)])

    async def __aenter__(self):
        return service_pb2_grpc.GRPCInferenceServiceStub(self._channel)

    async def __aexit__(self, *_):
        await self._channel.close()


async def _ready(server, models):
    try:
        answers = [await server.ModelReady(service_pb2.ModelReadyRequest(name=name), timeout=2) for name in models]
    except grpc.aio.AioRpcError:
        return False
    return all(answer.ready for answer in answers)


@contextmanager
def installed(folder):
    """Lays a Triton out in *folder*, not started; raises `TritonUnavailable`."""
    repository = folder / "models"
    for name in (MODEL, STRANGER):
        (repository / name / "1").mkdir(parents=True)
        shutil.copy(Path(__file__).with_name("faulty_model.py"), repository / name / "1/model.py")
        (repository / name / "config.pbtxt").write_text(_config(name))
    layout = installation.lay_out(installation.find(), folder / "layout", repository, (MODEL, STRANGER))
    triton = Triton(layout, _free_ports(), folder / "triton.log")
    try:
        yield triton
    finally:
        triton.end()


def _config(name):
    config = contract_config()
    config.name, config.backend = name, "python"
    config.instance_group.add(kind=model_config_pb2.ModelInstanceGroup.KIND_CPU, count=1)
    if name == STRANGER:
        config.output[0].name = "some_other_text"
    return text_format.MessageToString(config)


def _free_ports():
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(3)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
