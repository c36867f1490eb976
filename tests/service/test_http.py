from __future__ import annotations

import signal

import httpx
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families as plain_metrics

from gateway.metrics import Metrics
from gateway.server import http
from gateway.server.readiness import Readiness
from tests.fixtures.served_gateway import StandInModel, caption


@pytest.fixture
def registry():
    return CollectorRegistry()


@pytest.fixture
async def readiness(registry):
    readiness = Readiness({"one": StandInModel(), "two": StandInModel(ready=False)}, Metrics(registry))
    await readiness.look()
    return readiness


@pytest.fixture
async def client(registry, readiness):
    async with (
        http.serve(http.app(registry, readiness), "127.0.0.1:0") as port,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client,
    ):
        yield client


async def test_the_process_is_alive(client):
    response = await client.get("/healthz")
    assert (response.status_code, response.text) == (200, "ok\n")


async def test_ready_while_one_model_is(client):
    response = await client.get("/readyz")
    assert response.status_code == 200
    assert response.json() == {"state": "serving", "models": {"one": "ready", "two": "not_ready"}}


async def test_not_ready_when_no_model_is(client, readiness):
    readiness._models["one"].is_ready = False
    await readiness.look()
    response = await client.get("/readyz")
    assert (response.status_code, response.json()["state"]) == (503, "not_serving")


async def test_not_ready_while_draining_but_alive(client, readiness):
    readiness.drain()
    ready, alive = await client.get("/readyz"), await client.get("/healthz")
    assert (ready.status_code, ready.json()["state"], alive.status_code) == (503, "draining", 200)


async def test_the_index_names_what_is_here(client):
    text = (await client.get("/")).text
    assert [path for path in ("/metrics", "/healthz", "/readyz") if path not in text] == []


@pytest.mark.parametrize(
    ("accept", "parse", "content_type"),
    [
        ("*/*", plain_metrics, "text/plain"),
        ("application/openmetrics-text; version=1.0.0", open_metrics, "application/openmetrics-text"),
    ],
    ids=["plain", "OpenMetrics"],
)
async def test_metrics_come_in_the_form_that_is_asked_for(client, accept, parse, content_type):
    response = await client.get("/metrics", headers={"accept": accept})
    assert response.headers["content-type"].startswith(content_type)
    assert "vision_gateway_model_ready" in {family.name for family in parse(response.text)}


async def test_a_scrape_that_fails_does_not_end_the_server(client, registry):
    class Broken:
        def describe(self):
            return []

        def collect(self):
            raise RuntimeError

    registry.register(Broken())
    assert (await client.get("/metrics")).status_code == 500
    assert (await client.get("/healthz")).status_code == 200


async def test_metrics_tell_of_the_calls_over_grpc(served):
    await served.stub.Caption(caption(), timeout=5)
    async with (
        http.serve(http.app(served.registry, served.readiness), "127.0.0.1:0") as port,
        httpx.AsyncClient() as client,
    ):
        text = (await client.get(f"http://127.0.0.1:{port}/metrics")).text
    assert 'vision_gateway_requests_total{code="OK",rpc="Caption"} 1.0' in text


async def test_a_port_that_is_taken_is_named(registry, readiness):
    app = http.app(registry, readiness)
    async with http.serve(app, "127.0.0.1:0") as port:
        with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1:{port} for HTTP: Address already in use"):
            async with http.serve(app, f"127.0.0.1:{port}"):
                pass


async def test_ipv6_addresses_are_understood(registry, readiness):
    async with (
        http.serve(http.app(registry, readiness), "[::1]:0") as port,
        httpx.AsyncClient() as client,
    ):
        assert (await client.get(f"http://[::1]:{port}/healthz")).status_code == 200


async def test_the_signals_of_the_process_are_left_alone(client):
    before = signal.getsignal(signal.SIGTERM)
    await client.get("/healthz")
    assert signal.getsignal(signal.SIGTERM) is before
    assert before is signal.SIG_DFL


async def test_a_taken_grpc_port_is_named(served, serve):
    other = await serve()
    port = served.address.rpartition(":")[2]
    with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1:{port} for gRPC"):
        await other.listener.start(served.address)
