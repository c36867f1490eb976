"""Three replicas as a real Prometheus sees them, one of which is killed and replaced."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from contextlib import ExitStack

import grpc

from tests.fixtures.settings_file import caption, script
from tests.load.gateway_process import serving
from visiongateway.v1 import vision_service_pb2_grpc

CAPTION = caption()
LONG_S = 60


def replica(folder, number, address="127.0.0.1:0", http_address="127.0.0.1:0"):
    tables = {"models": {"scripted": script()}, "images": {"workers": 1}, "ledger": {"url": "off"}}
    return serving(folder / str(number), address=address, server={"http_address": http_address}, **tables)


def make_calls(gateways, each):
    """Makes *each* calls to every one of *gateways*, and gives how many were answered by which."""
    answered = Counter()
    for gateway in gateways:
        with grpc.insecure_channel(gateway.address) as channel:
            stub = vision_service_pb2_grpc.VisionServiceStub(channel)
            for _ in range(each):
                stub.Caption(CAPTION, timeout=LONG_S)
                answered[gateway.http_address] += 1
    return answered


async def counted(prometheus):
    """Waits until Prometheus has scraped all three anew, and gives what it has of each."""
    since = time.time()
    async with asyncio.timeout(30):
        while not await prometheus.ask(f"count(up == 1 and timestamp(up) > {since}) == 3"):  # noqa: ASYNC110  seen from outside
            await asyncio.sleep(0.1)
    found = await prometheus.ask('vision_gateway_requests_total{code="OK"}')
    return Counter({labels["instance"]: int(value) for labels, value in found})


async def test_counters_of_three_replicas_equal_the_calls_made_although_one_was_killed(tmp_path, start_prometheus):
    with ExitStack() as stack:
        started = [asyncio.to_thread(lambda n=n: stack.enter_context(replica(tmp_path, n))) for n in range(3)]
        gateways = await asyncio.gather(*started)
        prometheus = await start_prometheus(vision_gateway=[each.http_address for each in gateways], triton=[])
        first = await asyncio.to_thread(make_calls, gateways, 20)
        before = await counted(prometheus)

        killed = gateways[0]
        killed.process.kill()
        killed.process.wait()
        again = replica(tmp_path, 3, killed.address, killed.http_address)
        gateways[0] = await asyncio.to_thread(stack.enter_context, again)
        second = await asyncio.to_thread(make_calls, gateways, 10)
        after = await counted(prometheus)
        resets = await prometheus.ask('sum(resets(vision_gateway_requests_total{code="OK"}[10m]))')

    # A replica begins anew from nothing, as Prometheus knows of counters.
    assert (before, resets[0][1]) == (first, 1.0)
    assert after + Counter({killed.http_address: before[killed.http_address]}) == first + second
