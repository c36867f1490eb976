"""Replicas behind a real Envoy with the configuration that is shipped: restarts, deaths, and other ways to call."""

from __future__ import annotations

import asyncio
import base64
import json
import signal
import subprocess
from collections import Counter
from contextlib import ExitStack, asynccontextmanager

import grpc
import pytest

from deploy.envoy.generate import TARGET, descriptors
from gateway.server import listen
from tests.fixtures.envoy import ENVOY, configuration
from tests.fixtures.settings_file import caption, script
from tests.load.gateway_process import serving
from visiongateway import AsyncVisionClient, VisionError
from visiongateway.v1 import vision_service_pb2 as pb, vision_service_pb2_grpc

CAPTION = caption()
PICTURE = CAPTION.image.data
CALLERS = 24
LONG_S = 60
UNFORGIVING = [("grpc.enable_retries", 0)]
FREE = {"images": {"workers": 1}, "ledger": {"url": "off"}}


class Replica:
    """One address, and the process that serves there now."""

    def __init__(self, folder, **model):
        self._folder = folder
        self._model = script(**model)
        self._running = ExitStack()
        self.address = "127.0.0.1:0"

    def start(self):
        server = {"drain_wait_s": 3.0, "grace_s": 10.0}
        started = serving(self._folder, address=self.address, server=server, models={"scripted": self._model}, **FREE)
        self.process = self._running.enter_context(started)
        self.address = self.process.address

    def restart(self):
        code = self.process.stop()
        self._running.pop_all().close()
        self.start()
        return code

    def kill(self):
        self.process.process.send_signal(signal.SIGKILL)

    def inflight(self):
        return self.process.samples("vision_gateway_inflight", "scope").get(("scripted",), 0)

    def close(self):
        self._running.close()


@pytest.fixture
async def start_replicas(tmp_path):
    """Starts three replicas whose models are scripted so."""
    replicas = []

    async def start(count=3, **model):
        replicas.extend(Replica(tmp_path / f"replica-{number}", **model) for number in range(count))
        await asyncio.gather(*(asyncio.to_thread(each.start) for each in replicas))
        return replicas

    yield start
    for each in replicas:
        each.close()


@asynccontextmanager
async def callers(client):
    """Has many callers make one call after another; gives the codes that they get."""
    ended, over = Counter(), asyncio.Event()

    async def call():
        while not over.is_set():
            try:
                await client.caption(PICTURE)
                ended["OK"] += 1
            except VisionError as exc:
                ended[f"{exc.code.name} {exc.reason}".strip()] += 1

    async with asyncio.TaskGroup() as group:
        for _ in range(CALLERS):
            group.create_task(call())
        yield ended
        over.set()


async def until(condition):
    async with asyncio.timeout(30):
        while not await asyncio.to_thread(condition):  # noqa: ASYNC110  seen from outside
            await asyncio.sleep(0.05)


def test_envoy_finds_nothing_wrong_with_the_configuration(tmp_path):
    path, _ = configuration(tmp_path, [], port=8443)

    checked = subprocess.run(
        [ENVOY, "--mode", "validate", "-c", path], capture_output=True, text=True, timeout=60, check=False
    )

    assert (checked.returncode, [line for line in checked.stderr.splitlines() if "[warning]" in line]) == (0, [])


def test_what_envoy_knows_of_the_contract_is_the_contract():
    assert TARGET.read_bytes() == descriptors().SerializeToString()


async def test_a_rolling_restart_of_three_replicas_fails_no_call(start_replicas, start_envoy):
    replicas = await start_replicas(delay_s=0.05)
    envoy = await start_envoy(*(each.address for each in replicas))

    async with AsyncVisionClient(envoy.address, credentials=envoy.credentials) as client, callers(client) as ended:
        exits = []
        for replica in replicas:
            exits.append(await asyncio.to_thread(replica.restart))
            await envoy.healthy(3)
            await until(lambda: replica.process.samples("vision_gateway_requests_total", "code"))  # noqa: B023  awaited

    assert (set(ended), exits) == ({"OK"}, [0, 0, 0])
    assert ended["OK"] > 100 * len(replicas)


async def test_of_a_killed_replica_only_the_calls_in_flight_fail(start_replicas, start_envoy):
    replicas = await start_replicas(delay_s=2)
    envoy = await start_envoy(*(each.address for each in replicas))

    async with grpc.aio.secure_channel(envoy.address, envoy.credentials, UNFORGIVING) as channel:
        stub = vision_service_pb2_grpc.VisionServiceStub(channel)
        make = lambda: asyncio.ensure_future(_code(stub.Caption(CAPTION, timeout=LONG_S)))  # noqa: E731  twice
        before = [make() for _ in range(12)]
        await until(lambda: sum(each.inflight() for each in replicas) == len(before))
        victim = max(replicas, key=Replica.inflight)
        lost = victim.inflight()
        victim.kill()
        # Envoy knows that the connection is gone, and has not looked at the replica's health since.
        await asyncio.wait(before, return_when=asyncio.FIRST_COMPLETED)
        after = [make() for _ in range(12)]

        assert Counter(await asyncio.gather(*before)) == {"OK": 12 - lost, "UNAVAILABLE": lost}
        assert Counter(await asyncio.gather(*after)) == {"OK": 12}


async def test_clients_that_retry_see_nothing_of_a_killed_replica(start_replicas, start_envoy):
    replicas = await start_replicas(delay_s=0.1)
    envoy = await start_envoy(*(each.address for each in replicas))

    async with AsyncVisionClient(envoy.address, credentials=envoy.credentials) as client, callers(client) as ended:
        await until(lambda: replicas[0].inflight() > 0)
        replicas[0].kill()
        await envoy.healthy(2)

    assert set(ended) == {"OK"}


async def test_connections_that_are_renewed_cost_no_call(start_gateway, start_envoy, monkeypatch):
    often = [(name, 500 if name == "grpc.max_connection_age_ms" else value) for name, value in listen._OPTIONS]
    monkeypatch.setattr(listen, "_OPTIONS", tuple(often))
    gateway = await start_gateway(models={"scripted": script(delay_s=0.02)})
    envoy = await start_envoy(gateway.addresses.grpc)

    async with grpc.aio.secure_channel(envoy.address, envoy.credentials, UNFORGIVING) as channel:
        stub = vision_service_pb2_grpc.VisionServiceStub(channel)
        codes = Counter()
        async with asyncio.timeout(30):
            while await envoy.connections() < 6:
                codes.update(await asyncio.gather(*(_code(stub.Caption(CAPTION, timeout=LONG_S)) for _ in range(8))))

    assert set(codes) == {"OK"}


async def test_json_and_grpc_web_are_answered_and_errors_told(start_replicas, start_envoy):
    (replica,) = await start_replicas(1, answer="A teal picture.")
    envoy = await start_envoy(replica.address)
    method, json_type = "/visiongateway.v1.VisionService/Caption", "application/json"
    image = {"image": {"data": base64.b64encode(PICTURE).decode()}}
    message = CAPTION.SerializeToString()
    framed = b"\0" + len(message).to_bytes(4, "big") + message

    answered = await envoy.post(method, json.dumps(image).encode(), content_type=json_type)
    refused = await envoy.post(method, b"{}", content_type=json_type)
    web, reply = await envoy.post(method, framed, content_type="application/grpc-web+proto", x_grpc_web="1")

    assert (answered[0], json.loads(answered[1])["text"]) == (200, "A teal picture.")
    assert (refused[0], json.loads(refused[1])["details"][0]["reason"]) == (400, "INVALID_IMAGE")
    size = int.from_bytes(reply[1:5], "big")
    assert (web, pb.CaptionResponse.FromString(reply[5 : 5 + size]).text) == (200, "A teal picture.")
    assert b"grpc-status:0" in reply[5 + size :]


async def _code(call):
    try:
        await call
    except grpc.aio.AioRpcError as exc:
        return exc.code().name
    return "OK"
