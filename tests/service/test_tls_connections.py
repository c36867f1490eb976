"""Connections that come to nothing: nobody gets in, and a whole gateway counts how many there were."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from tests.fixtures.pki import SPIFFE, channel
from tests.fixtures.served_gateway import failure_of
from tests.fixtures.settings_file import caption, script
from tests.fixtures.tls_gateway import call, get, tables
from visiongateway.v1 import vision_service_pb2_grpc

BEGUN = "vision_gateway_tls_connections_total"
USED = "vision_gateway_tls_connections_used_total"

every_wrong_one = pytest.mark.parametrize("shown", ["none", "of another authority", "expired"])


@pytest.fixture
def wrong(authority, stranger):
    """What callers show that are not let in."""
    return {
        "none": None,
        "of another authority": stranger.caller(SPIFFE),
        "expired": authority.caller(SPIFFE, valid_days=-1),
    }


def counted(metrics, port="grpc"):
    """The connections that were begun, and those of them that were used."""
    return tuple(float(metrics[f'{name}{{port="{port}"}}']) for name in (BEGUN, USED))


async def knock(address, authority, leaf, path):
    """Connects once, as any program may, and waits until the gateway hangs up."""
    context = ssl.create_default_context(cadata=authority.pem.decode())
    context.set_alpn_protocols(["h2"])
    if leaf:
        (path / "leaf.pem").write_bytes(leaf.key + leaf.cert)
        context.load_cert_chain(path / "leaf.pem")
    host, port = address.rsplit(":", 1)
    with suppress(ssl.SSLError, ConnectionError):
        reader, writer = await asyncio.open_connection(host, int(port), ssl=context, server_hostname="localhost")
        try:
            await reader.read()
        finally:
            writer.transport.abort()


@every_wrong_one
async def test_a_wrong_certificate_lets_nobody_connect_and_each_try_is_counted(
    serve_file, start_tap, mutual, authority, wrong, shown
):
    running = await serve_file(**tables(mutual, ingest={"san": [SPIFFE]}))
    tap = await start_tap(f"http://{running.gateway.addresses.grpc}")

    async with channel(tap.url.removeprefix("http://"), authority, wrong[shown]) as connection:
        failure = await failure_of(vision_service_pb2_grpc.VisionServiceStub(connection).Caption(caption(), timeout=10))

    assert failure.code is grpc.StatusCode.UNAVAILABLE
    # A channel may try again by itself, also as it is closed.
    await running.until(f'{BEGUN}{{port="grpc"}}', f"{tap.connections}.0")
    metrics = await running.metrics()
    assert counted(metrics) == (tap.connections, 0)
    assert not [name for name in metrics if name.startswith("vision_gateway_requests_total")]


async def test_what_failed_among_good_callers_is_what_was_begun_less_what_was_used(
    serve_file, mutual, authority, wrong, tmp_path
):
    running = await serve_file(**tables(mutual, ingest={"san": [SPIFFE]}))
    address, good = running.gateway.addresses.grpc, authority.caller(SPIFFE)

    for leaf in (*wrong.values(), *wrong.values()):
        await knock(address, authority, leaf, tmp_path)
        await call(running, authority, good)

    assert counted(await running.metrics()) == (12, 6)


async def test_a_connection_counts_once_however_many_calls_come_on_it(serve_file, files, authority):
    _, tls = files
    running = await serve_file(**tables(tls))

    async with channel(running.gateway.addresses.grpc, authority) as kept:
        for _ in range(3):
            await vision_service_pb2_grpc.VisionServiceStub(kept).Caption(caption(), timeout=10)

    assert counted(await running.metrics()) == (1, 1)


async def test_asking_for_health_and_for_the_services_is_use_too(serve_file, files, authority):
    _, tls = files
    running = await serve_file(**tables(tls))
    asked = reflection_pb2.ServerReflectionRequest(list_services="")

    async def health(connection):
        await health_pb2_grpc.HealthStub(connection).Check(health_pb2.HealthCheckRequest(), timeout=10)

    async def watch(connection):
        await health_pb2_grpc.HealthStub(connection).Watch(health_pb2.HealthCheckRequest(), timeout=10).read()

    async def reflect(connection):
        answers = reflection_pb2_grpc.ServerReflectionStub(connection).ServerReflectionInfo(iter([asked]), timeout=10)
        assert [len(each.list_services_response.service) async for each in answers] == [3]

    for use in (health, watch, reflect):
        async with channel(running.gateway.addresses.grpc, authority) as connection:
            await use(connection)

    assert counted(await running.metrics()) == (3, 3)


async def test_a_call_that_is_refused_for_its_credential_came_on_a_connection_that_is_used(
    serve_file, mutual, authority
):
    running = await serve_file(**tables(mutual, ingest={"san": [SPIFFE]}))

    failure = await failure_of(call(running, authority, authority.caller("spiffe://example.org/other")))

    assert failure.code is grpc.StatusCode.UNAUTHENTICATED
    assert counted(await running.metrics()) == (1, 1)


async def test_a_caller_that_trusts_another_authority_does_not_connect(serve_file, files, stranger):
    _, tls = files
    running = await serve_file(**tables(tls))

    failure = await failure_of(call(running, stranger))

    assert failure.code is grpc.StatusCode.UNAVAILABLE
    assert counted(await running.metrics())[1] == 0


async def test_without_tls_nothing_is_counted(serve_file):
    running = await serve_file(models={"one": script()})

    await running.stub.Caption(caption(), timeout=10)

    metrics = await running.metrics()
    assert (counted(metrics), counted(metrics, "http")) == ((0, 0), (0, 0))


@pytest.mark.parametrize("shown", ["of another authority", "expired"])
async def test_the_http_port_refuses_a_wrong_certificate_and_counts_it(
    serve_file, mutual, authority, wrong, tmp_path, shown
):
    running = await serve_file(**tables({**mutual, "http": True}))
    address = running.gateway.addresses.http

    with pytest.raises((ssl.SSLError, ConnectionError, IndexError)):
        await get(address, "/healthz", authority, wrong[shown], tmp_path)

    # Reading them is a connection too.
    _, text = await get(address, "/metrics", authority)
    metrics = dict(line.rsplit(" ", 1) for line in text.splitlines() if line[0] != "#")
    assert counted(metrics, "http") == (2, 1)
