"""Certificates, authorities and names that change while a whole gateway serves."""

from __future__ import annotations

import asyncio

import grpc
from cryptography import x509

from tests.fixtures.pki import SPIFFE, channel
from tests.fixtures.served_gateway import failure_of
from tests.fixtures.settings_file import UNTIL_TOLD_S, caption, script
from tests.fixtures.tls_gateway import call, put, serial_of, serial_seen, stub, tables
from visiongateway.v1 import vision_service_pb2_grpc

EXPIRY = "vision_gateway_tls_certificate_expiry_timestamp_seconds"


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


async def test_whether_there_is_tls_needs_a_restart(serve_file, files):
    _, tls = files
    running = await serve_file(models={"one": script()}, server={"tls": tls})

    line = await running.reload(models={"one": script()})

    assert line["problems"] == ["server.tls needs a restart"]
