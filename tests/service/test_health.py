from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import pytest
from grpc import StatusCode
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from tests.fixtures.served_gateway import failure_of

SERVICE = "visiongateway.v1.VisionService"
Status = health_pb2.HealthCheckResponse
GRPCURL = Path(sys.executable).parent / "grpcurl"


@pytest.fixture
def health(served):
    return health_pb2_grpc.HealthStub(served.channel)


def _about(service):
    return health_pb2.HealthCheckRequest(service=service)


async def _check(health, service=""):
    return (await health.Check(_about(service), timeout=5)).status


@pytest.mark.parametrize("service", ["", SERVICE])
async def test_the_gateway_serves_while_any_model_is_ready(served, health, service):
    served.models["one"].is_ready = False
    await served.readiness.look()
    assert await _check(health, service) == Status.SERVING


@pytest.mark.parametrize("service", ["", SERVICE])
async def test_the_gateway_does_not_serve_when_no_model_is_ready(served, health, service):
    for model in served.models.values():
        model.is_ready = False
    await served.readiness.look()
    assert await _check(health, service) == Status.NOT_SERVING


async def test_a_draining_gateway_does_not_serve_whatever_its_models_say(served, health):
    served.readiness.drain()
    await served.readiness.look()
    assert await _check(health) == Status.NOT_SERVING


async def test_an_unknown_service_is_not_found(health):
    assert (await failure_of(health.Check(_about("other"), timeout=5))).code is StatusCode.NOT_FOUND


async def test_a_watcher_learns_of_every_change(served, health):
    watch = health.Watch(_about(SERVICE))
    seen = [(await watch.read()).status]
    for ready in (False, True):
        for model in served.models.values():
            model.is_ready = ready
        await served.readiness.look()
        seen.append((await watch.read()).status)
    served.readiness.drain()
    seen.append((await watch.read()).status)
    assert seen == [Status.SERVING, Status.NOT_SERVING, Status.SERVING, Status.NOT_SERVING]
    watch.cancel()


async def test_a_watcher_that_leaves_takes_nothing_from_the_others(served, health):
    first, second = health.Watch(_about("")), health.Watch(_about(""))
    assert [(await watch.read()).status for watch in (first, second)] == [Status.SERVING] * 2
    first.cancel()
    await asyncio.sleep(0.1)
    served.readiness.drain()
    assert (await asyncio.wait_for(second.read(), 5)).status == Status.NOT_SERVING
    second.cancel()


async def test_a_watcher_of_an_unknown_service_is_told_so(health):
    watch = health.Watch(_about("other"))
    assert (await watch.read()).status == Status.SERVICE_UNKNOWN
    watch.cancel()


async def test_reflection_lists_the_service(served):
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    call = reflection_pb2_grpc.ServerReflectionStub(served.channel).ServerReflectionInfo(iter([request]))
    listed = {service.name for service in (await call.read()).list_services_response.service}
    assert listed == {SERVICE, "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"}


async def test_grpcurl_describes_and_calls_the_service(served):
    described = await _grpcurl("-plaintext", served.address, "describe", SERVICE)
    request = json.dumps({"image": {"data": "aW1hZ2U="}, "detail": "CAPTION_DETAIL_SHORT"})
    answer = await _grpcurl("-plaintext", "-d", request, served.address, f"{SERVICE}/Caption")
    assert "rpc Caption ( .visiongateway.v1.CaptionRequest )" in described
    assert json.loads(answer) == {"info": {"model": "stand-in"}}


async def test_grpcurl_shows_what_is_wrong_with_a_request(served):
    shown = await _grpcurl("-plaintext", "-d", "{}", served.address, f"{SERVICE}/Caption", code=3 + 64)
    assert "InvalidArgument" in shown
    assert '"reason":"INVALID_IMAGE"' in shown.replace(" ", "")


async def _grpcurl(*arguments, code=0):
    process = await asyncio.create_subprocess_exec(
        GRPCURL, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    out, _ = await process.communicate()
    assert process.returncode == code, out.decode()
    return out.decode()
