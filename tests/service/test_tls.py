"""TLS on both ports of a whole gateway, and callers who are told apart by their certificates."""

from __future__ import annotations

import asyncio
import json
import ssl

import grpc
import pytest
from cryptography import x509
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.fixtures.pki import SPIFFE, Authority, channel
from tests.fixtures.served_gateway import failure_of
from tests.fixtures.settings_file import UNTIL_TOLD_S, caption, principal, script
from visiongateway.v1 import vision_service_pb2 as pb, vision_service_pb2_grpc

EXPIRY = "vision_gateway_tls_certificate_expiry_timestamp_seconds"


@pytest.fixture(scope="module")
def authority():
    return Authority()


@pytest.fixture(scope="module")
def stranger():
    return Authority()


@pytest.fixture
def files(tmp_path, authority):
    """Certificate and key of the gateway, and the authority of its callers, as files and as settings name them."""
    put(tmp_path, authority.server())
    (tmp_path / "client_ca.pem").write_bytes(authority.pem)
    return tmp_path, {"cert": f"{tmp_path}/tls.crt", "key": f"{tmp_path}/tls.key", "http": False}


@pytest.fixture
def mutual(files):
    path, tls = files
    return {**tls, "client_ca": f"{path}/client_ca.pem", "client_auth": "require"}


def put(path, leaf):
    for name, text in {"tls.crt": leaf.cert, "tls.key": leaf.key}.items():
        (path / f"{name}.new").write_bytes(text)
        (path / f"{name}.new").replace(path / name)


def tables(tls, **principals):
    return {"models": {"one": script()}, "principals": principals, "server": {"tls": tls}}


def stub(running, authority, leaf=None):
    return vision_service_pb2_grpc.VisionServiceStub(channel(running.gateway.addresses.grpc, authority, leaf))


async def call(running, authority, leaf=None, request=None, **given):
    async with channel(running.gateway.addresses.grpc, authority, leaf) as connection:
        return await vision_service_pb2_grpc.VisionServiceStub(connection).Caption(
            request or caption(), timeout=10, **given
        )


def serial_of(pem):
    return x509.load_pem_x509_certificate(pem).serial_number


async def serial_seen(address, authority, server_hostname="localhost"):
    """The serial number of the certificate that a new connection sees."""
    context = ssl.create_default_context(cadata=authority.pem.decode())
    context.check_hostname = server_hostname is not None
    context.set_alpn_protocols(["h2", "http/1.1"])
    host, port = address.rsplit(":", 1)
    _, writer = await asyncio.open_connection(host, int(port), ssl=context, server_hostname=server_hostname or "")
    der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.transport.abort()
    return x509.load_der_x509_certificate(der).serial_number


async def test_calls_are_answered_over_tls_and_in_plain_text_nobody_is(serve_file, files, authority):
    _, tls = files
    running = await serve_file(**tables(tls))

    answer = await call(running, authority)
    failure = await failure_of(running.stub.Caption(caption(), timeout=10))

    assert answer.info.model == "one"
    assert failure.code is grpc.StatusCode.UNAVAILABLE
    assert float((await running.metrics())["vision_gateway_tls_connections_total"]) >= 1


async def test_a_caller_is_known_by_the_name_in_its_certificate(serve_file, mutual, authority):
    running = await serve_file(**tables(mutual, ingest={"san": [SPIFFE], "rpcs": ["Caption"]}))
    leaf = authority.caller(SPIFFE, "ingest.example.org")

    await call(running, authority, leaf)
    failure = await failure_of(stub(running, authority, leaf).ListModels(pb.ListModelsRequest(), timeout=10))

    assert failure.reason == "FORBIDDEN"
    calls = [json.loads(line) for line in running.log.getvalue().splitlines() if '"event":"call"' in line]
    assert {each["principal"] for each in calls} == {"ingest"}


async def test_a_certificate_of_nobody_known_is_refused_and_counted(serve_file, mutual, authority):
    running = await serve_file(**tables(mutual, ingest={"san": [SPIFFE]}, anonymous={}))

    failure = await failure_of(call(running, authority, authority.caller("spiffe://example.org/other")))

    assert (failure.code, failure.reason) == (grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED")
    assert failure.info.metadata["cause"] == "unknown_certificate"
    refused = 'vision_gateway_auth_refused_total{cause="unknown_certificate"}'
    assert (await running.metrics())[refused] == "1.0"


@pytest.mark.parametrize("shown", ["none", "of another authority", "expired"])
async def test_a_certificate_that_is_wrong_lets_nobody_connect(serve_file, mutual, authority, stranger, shown):
    running = await serve_file(**tables(mutual, ingest={"san": [SPIFFE]}))
    leaf = {
        "none": None,
        "of another authority": stranger.caller(SPIFFE),
        "expired": authority.caller(SPIFFE, valid_days=-1),
    }[shown]

    failure = await failure_of(call(running, authority, leaf))

    assert failure.code is grpc.StatusCode.UNAVAILABLE
    metrics = await running.metrics()
    assert float(metrics["vision_gateway_tls_connections_total"]) >= 1
    assert not [name for name in metrics if name.startswith("vision_gateway_requests_total")]


async def test_a_caller_that_trusts_another_authority_does_not_connect(serve_file, files, stranger):
    _, tls = files
    running = await serve_file(**tables(tls))

    failure = await failure_of(call(running, stranger))

    assert failure.code is grpc.StatusCode.UNAVAILABLE


async def test_a_certificate_is_renewed_while_calls_go_on_and_none_fails(serve_file, files, authority):
    path, tls = files
    given = {"server": {"tls": tls, "reload": "auto"}}
    running = await serve_file(models={"one": script()}, **given)
    address = running.gateway.addresses.grpc
    renewed, done, answered = authority.server(), asyncio.Event(), []
    before = await serial_seen(address, authority)

    async def call_on():
        kept = stub(running, authority)
        while not done.is_set():
            answered.append((await kept.Caption(caption(), timeout=30)).info.model)
            answered.append((await call(running, authority)).info.model)

    async def renew():
        # The certificate first, and for a while its key is another's.
        (path / "tls.crt").write_bytes(renewed.cert)
        await running.told(1)
        refused = running.lines()[-1]
        put(path, renewed)
        await running.told(2)
        done.set()
        return refused

    _, _, refused = await asyncio.gather(call_on(), call_on(), renew())

    assert "is not the key of the certificate" in " ".join(refused["problems"])
    assert running.lines()[-1]["changed"].keys() == {
        f"the door (the contents of {path}/{name})" for name in ("tls.crt", "tls.key")
    }
    assert before != await serial_seen(address, authority) == serial_of(renewed.cert)
    assert len(answered) >= 4
    assert set(answered) == {"one"}
    expires = x509.load_pem_x509_certificate(renewed.cert).not_valid_after_utc.timestamp()
    assert float((await running.metrics())[EXPIRY]) == expires


async def test_a_call_on_an_old_connection_ends_with_its_answer_after_the_renewal(
    serve_file, files, authority, answer_now
):
    path, tls = files
    running = await serve_file(models={"slow": script(delay_s=UNTIL_TOLD_S)}, server={"tls": tls})
    async with channel(running.gateway.addresses.grpc, authority) as kept:
        pending = asyncio.ensure_future(vision_service_pb2_grpc.VisionServiceStub(kept).Caption(caption(), timeout=500))
        await running.until('vision_gateway_inflight{scope="slow"}', "1.0")

        put(path, authority.server())
        line = await running.reload()
        answer_now.set()

        assert line["outcome"] == "applied"
        assert (await pending).info.model == "slow"


async def test_an_authority_that_was_taken_away_lets_no_new_caller_connect(
    serve_file, mutual, files, authority, stranger
):
    path, _ = files
    running = await serve_file(**tables(mutual, ingest={"san": [SPIFFE]}))
    leaf = authority.caller(SPIFFE)
    await call(running, authority, leaf)

    (path / "client_ca.pem").write_bytes(stranger.pem)
    await running.reload()
    failure = await failure_of(call(running, authority, leaf))
    answer = await call(running, authority, stranger.caller(SPIFFE))

    assert failure.code is grpc.StatusCode.UNAVAILABLE
    assert answer.info.model == "one"


async def test_a_name_that_is_taken_from_its_principal_is_refused_on_connections_that_are_there(
    serve_file, mutual, authority
):
    running = await serve_file(**tables(mutual, ingest={"san": [SPIFFE]}))
    async with channel(running.gateway.addresses.grpc, authority, authority.caller(SPIFFE)) as kept:
        known = vision_service_pb2_grpc.VisionServiceStub(kept)
        await known.Caption(caption(), timeout=10)

        await running.reload(**tables(mutual, ingest={"san": ["spiffe://example.org/successor"]}))
        failure = await failure_of(known.Caption(caption(), timeout=10))

    assert failure.info.metadata["cause"] == "unknown_certificate"


async def test_a_key_of_another_principal_beside_a_certificate_is_refused(serve_file, mutual, authority):
    running = await serve_file(**tables(mutual, ingest={"san": [SPIFFE]}, anna=principal("k")))
    metadata = [("authorization", "Bearer k")]

    failure = await failure_of(call(running, authority, authority.caller(SPIFFE), metadata=metadata))
    answer = await call(running, authority, authority.caller("mesh.example.org"), metadata=metadata)

    assert failure.info.metadata["cause"] == "mismatch"
    assert answer.info.model == "one"


async def test_health_is_told_over_tls_without_a_credential(serve_file, files, authority):
    _, tls = files
    running = await serve_file(**tables(tls, anna=principal("k")))

    async with channel(running.gateway.addresses.grpc, authority) as connection:
        health = await health_pb2_grpc.HealthStub(connection).Check(health_pb2.HealthCheckRequest(), timeout=10)

    assert health.status == health_pb2.HealthCheckResponse.SERVING


async def get(address, path, authority, leaf=None, tmp_path=None, server_hostname="localhost", **headers):
    """Gives status and text over HTTPS."""
    context = ssl.create_default_context(cadata=authority.pem.decode())
    if leaf:
        (tmp_path / "leaf.pem").write_bytes(leaf.key + leaf.cert)
        context.load_cert_chain(tmp_path / "leaf.pem")
    host, port = address.rsplit(":", 1)
    reader, writer = await asyncio.open_connection(host, int(port), ssl=context, server_hostname=server_hostname)
    given = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    writer.write(f"GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n{given}\r\n".encode())
    try:
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    finally:
        writer.close()
    return int(head.split()[1]), body.decode()


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1"], ids=["by name", "by address, without SNI"])
async def test_the_http_port_speaks_tls_and_sees_the_renewed_certificate(serve_file, files, authority, name):
    path, tls = files
    running = await serve_file(models={"one": script()}, server={"tls": {**tls, "http": True}})
    address, renewed = running.gateway.addresses.http, authority.server()
    before = await serial_seen(address, authority, name)

    put(path, renewed)
    running.source.asked.set()
    await running.told(1)

    assert before != await serial_seen(address, authority, name) == serial_of(renewed.cert)
    assert await get(address, "/healthz", authority, server_hostname=name) == (200, "ok\n")


async def test_the_metrics_are_read_by_those_who_may_and_health_by_everybody(serve_file, mutual, authority, tmp_path):
    principals = {"prometheus": {"san": ["prometheus.example.org"]}, "anna": principal("k"), "spare": principal("s")}
    running = await serve_file(
        models={"one": script()},
        principals=principals,
        server={"tls": {**mutual, "http": True}, "metrics_principals": ["prometheus", "spare"]},
    )
    address = running.gateway.addresses.http

    async def status(path="/metrics", leaf=None, **headers):
        return (await get(address, path, authority, leaf, tmp_path, **headers))[0]

    assert await status(leaf=authority.caller("prometheus.example.org")) == 200
    assert await status(authorization="Bearer s") == 200
    assert await status() == 401
    assert await status(leaf=authority.caller("other.example.org")) == 401
    assert await status(authorization="Bearer wrong") == 401
    assert await status(authorization="Bearer k") == 403
    assert [await status(path) for path in ("/healthz", "/readyz")] == [200, 200]


async def test_a_certificate_of_another_authority_is_refused_by_the_http_port(
    serve_file, mutual, authority, stranger, tmp_path
):
    running = await serve_file(models={"one": script()}, server={"tls": {**mutual, "http": True}})

    with pytest.raises((ssl.SSLError, ConnectionError, IndexError)):
        await get(running.gateway.addresses.http, "/healthz", authority, stranger.caller(SPIFFE), tmp_path)


async def test_whether_there_is_tls_needs_a_restart(serve_file, files):
    _, tls = files
    running = await serve_file(models={"one": script()}, server={"tls": tls})

    line = await running.reload(models={"one": script()})

    assert line["problems"] == ["server.tls needs a restart"]
