"""TLS at the gRPC port of a whole gateway, and callers who are told apart by their certificates."""

from __future__ import annotations

import json

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.fixtures.pki import SPIFFE, channel
from tests.fixtures.served_gateway import failure_of
from tests.fixtures.settings_file import caption, principal
from tests.fixtures.tls_gateway import call, stub, tables
from visiongateway.v1 import vision_service_pb2 as pb


async def test_calls_are_answered_over_tls_and_in_plain_text_nobody_is(serve_file, files, authority):
    _, tls = files
    running = await serve_file(**tables(tls))

    answer = await call(running, authority)
    failure = await failure_of(running.stub.Caption(caption(), timeout=10))

    assert answer.info.model == "one"
    assert failure.code is grpc.StatusCode.UNAVAILABLE


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
