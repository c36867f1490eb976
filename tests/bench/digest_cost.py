"""Measures what holding images costs who never names one, and what naming saves: python -m tests.bench.digest_cost.

Two gateways take turns, one that holds no images and one that does, each with a scripted model that answers at once.
Prints the gateway's CPU time a call (its whole process tree) and its latency at the median, for images sent whole to
either and for images named by their digest; how long a digest takes that is the first of a full store; and what is
resident in the end.
"""

from __future__ import annotations

import argparse
import hashlib
import statistics
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path

import grpc
import uvloop

from tests.bench.gateway_overhead import IMAGES, cpu_s, jpeg, latencies, process, rss_mb
from visiongateway.v1 import call_pb2, image_pb2, vision_service_pb2 as pb, vision_service_pb2_grpc

SETTINGS = """
[server]
grpc_address = "127.0.0.1:0"
http_address = "127.0.0.1:0"
log_level = "WARNING"
[ledger]
url = "off"
[images]
held_mib = {held_mib}
[models.scripted]
kind = "fake"
profile = "gemma4"
price = "free"
remember = 0
"""
HELD_MIB = 64


def caller(stub, image):
    request = pb.VQARequest(
        image=image, question="What is it?", options=call_pb2.CallOptions(image_detail=call_pb2.IMAGE_DETAIL_MAX)
    )

    async def call():
        await stub.VQA(request, timeout=30)

    return call


async def main(calls, rounds):
    """Prints a row for each way and image size."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        gateways = {}
        for name, held_mib in (("off", 0), ("on", HELD_MIB)):
            settings = folder / f"{name}.toml"
            settings.write_text(SETTINGS.format(held_mib=held_mib))
            gateway, address = stack.enter_context(process("tests.bench.gateway_process", str(settings)))
            channel = await stack.enter_async_context(
                grpc.aio.insecure_channel(address, [("grpc.max_send_message_length", -1)])
            )
            gateways[name] = gateway.pid, vision_service_pb2_grpc.VisionServiceStub(channel)
        print("images              size      CPU/call           p50")
        for size, quality in IMAGES:
            data = jpeg(size, quality)
            whole, named = image_pb2.Image(data=data), image_pb2.Image(digest=hashlib.sha256(data).digest())
            ways = {"whole, not held": ("off", whole), "whole, held": ("on", whole), "named": ("on", named)}
            cpu, took = {way: [] for way in ways}, {way: [] for way in ways}
            for _ in range(rounds):
                for way, (gateway, image) in ways.items():
                    pid, stub = gateways[gateway]
                    call = caller(stub, image)
                    if image is named:
                        started = time.perf_counter()
                        await call()
                        first_ms = (time.perf_counter() - started) * 1000
                    await latencies(call, 10)
                    before = cpu_s(pid)
                    took[way] += await latencies(call, calls)
                    cpu[way].append((cpu_s(pid) - before) / calls * 1000)
            for way in ways:
                row = f"{statistics.median(cpu[way]):>11.3f} ms{statistics.median(took[way]):>11.3f} ms"
                print(f"{way:<16}{len(data) // 1000:>5} KB{row}")
            print(f"first one named, of a full store: {first_ms:.1f} ms")
        for name, (pid, _) in gateways.items():
            print(f"resident, holding {name}: {rss_mb(pid):.0f} MB")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=5)
    uvloop.run(main(**vars(parser.parse_args())))
