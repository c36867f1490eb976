from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager

import grpc
import pytest
from grpc import StatusCode
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.fixtures.served_gateway import caption, failure_of
from visiongateway.v1 import vision_service_pb2_grpc

LONG = 20


def _slow(served, seconds):
    """Makes calls take *seconds*; gives an event that tells that one has come so far."""
    asked = asyncio.Event()

    async def sleep(task, *_):
        asked.set()
        await asyncio.sleep(seconds)
        return task.response()

    served.pipeline.answer = sleep
    return asked


async def test_a_drain_lets_short_calls_end_and_ends_long_ones_unavailable(served):
    asked = _slow(served, 0.6)
    short = asyncio.ensure_future(_answer(served.stub.Caption(caption())))
    await asked.wait()
    asked = _slow(served, LONG)
    long = asyncio.ensure_future(failure_of(served.stub.OCR(served.tasks["OCR"].request(image=caption().image))))
    await asked.wait()
    await served.listener.drain(wait_s=0, grace_s=1.2)
    await short
    failure = await long
    assert (failure.code, failure.reason) == (StatusCode.UNAVAILABLE, "DRAINING")
    assert served.pipeline.cancelled == 1
    assert (served.calls("Caption", "OK"), served.calls("OCR", "UNAVAILABLE")) == (1, 1)
    assert served.count("vision_gateway_inflight", scope="server") == 0


@asynccontextmanager
async def _slow_link(address, bytes_per_s):
    """A way to *address* on which answers come no faster than a network would bring them."""
    host, port = address.split(":")
    chunk = 1 << 15

    async def carry(reader, writer, seconds_per_chunk):
        while data := await reader.read(chunk):
            await asyncio.sleep(seconds_per_chunk)
            writer.write(data)
            await writer.drain()
        writer.close()

    async with asyncio.TaskGroup() as tasks:

        def connected(reader, writer):
            tasks.create_task(connect(reader, writer))

        async def connect(reader, writer):
            far_reader, far_writer = await asyncio.open_connection(host, port, limit=chunk)
            tasks.create_task(carry(reader, far_writer, 0))
            tasks.create_task(carry(far_reader, writer, chunk / bytes_per_s))

        async with await asyncio.start_server(connected, "127.0.0.1", 0, limit=chunk) as server:
            yield "{}:{}".format(*server.sockets[0].getsockname())


async def test_an_answer_that_is_on_its_way_arrives(served):
    asked, release = asyncio.Event(), asyncio.Event()

    async def long_answer(task, *_):
        asked.set()
        await release.wait()
        return task.response(text="x" * 3_000_000)

    served.pipeline.answer = long_answer
    async with _slow_link(served.address, 15_000_000) as address, grpc.aio.insecure_channel(address) as channel:
        stub = vision_service_pb2_grpc.VisionServiceStub(channel)
        call = asyncio.ensure_future(_answer(stub.Caption(caption())))
        await asked.wait()
        draining = asyncio.ensure_future(served.listener.drain(wait_s=0, grace_s=LONG))
        release.set()
        assert len((await call).text) == 3_000_000
        await draining


async def test_a_drain_is_over_as_soon_as_nothing_is_in_flight(served):
    started = time.monotonic()
    await served.listener.drain(wait_s=0, grace_s=LONG)
    assert time.monotonic() - started < LONG


async def test_a_health_watcher_does_not_hold_the_drain_up(served):
    watch = health_pb2_grpc.HealthStub(served.channel).Watch(health_pb2.HealthCheckRequest())
    await watch.read()
    await asyncio.wait_for(served.listener.drain(wait_s=0, grace_s=LONG * 10), LONG)


async def test_while_it_waits_a_draining_gateway_takes_calls(served):
    health = health_pb2_grpc.HealthStub(served.channel)
    draining = asyncio.ensure_future(served.listener.drain(wait_s=0.5, grace_s=LONG))
    await asyncio.sleep(0)
    status = await health.Check(health_pb2.HealthCheckRequest())
    await served.stub.Caption(caption())
    assert status.status == health_pb2.HealthCheckResponse.NOT_SERVING
    await draining


async def test_when_closed_new_calls_are_refused_and_told_where_to_go(served):
    served.admission.close()
    failure = await failure_of(served.stub.Caption(caption()))
    assert (failure.code, failure.reason) == (StatusCode.UNAVAILABLE, "DRAINING")
    assert 50 <= int(failure.trailers["grpc-retry-pushback-ms"]) <= 150
    assert served.count("vision_gateway_shed_total", reason="DRAINING") == 1


async def test_a_call_that_comes_as_the_drain_begins_is_refused_with_a_reason(served):
    await served.stub.Caption(caption())
    draining = asyncio.ensure_future(served.listener.drain(wait_s=0, grace_s=LONG))
    await asyncio.sleep(0.01)
    failures = await asyncio.gather(*(failure_of(served.stub.Caption(caption())) for _ in range(10)))
    told = {(failure.code, failure.reason, failure.retry_after_s is not None) for failure in failures}
    assert told == {(StatusCode.UNAVAILABLE, "DRAINING", True)}
    await draining


async def test_a_call_still_waiting_for_its_body_ends_unavailable_too(served):
    async def never():
        await asyncio.Event().wait()
        yield

    silent = served.channel.stream_unary("/visiongateway.v1.VisionService/Caption")(never())
    await served.in_flight(1)
    ended = asyncio.ensure_future(failure_of(silent))
    await served.listener.drain(wait_s=0, grace_s=0.1)
    assert (await ended).reason == "DRAINING"


async def test_a_pipeline_that_will_not_end_does_not_hold_the_process(served):
    asked = asyncio.Event()
    release = asyncio.Event()

    async def stubborn(task, *_):
        asked.set()
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue
        return task.response()

    served.pipeline.answer = stubborn
    call = asyncio.ensure_future(_answer(served.stub.Caption(caption())))
    await asked.wait()
    await asyncio.wait_for(served.listener.drain(wait_s=0, grace_s=0.1), LONG)
    with pytest.raises(grpc.aio.AioRpcError):
        await call
    release.set()


async def _answer(call):
    return await call
