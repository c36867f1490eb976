"""Measures what a hit and a miss of the cache cost, against no cache: python -m tests.bench.cache_cost [--calls 200].

Behind the gateway is a scripted model that answers at once, so that all there is to see is the gateway's own. Prints
the gateway's CPU time a call (its whole process tree) and its latency at the median: without a cache; of hits; of
misses with a picture that was seen before, asked something else; and of misses with a picture never seen, which is
decoded.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import statistics
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path

import grpc
import numpy as np
import uvloop
from PIL import Image

from tests.bench.gateway_overhead import cpu_s, latencies, process
from tests.fixtures.pictures import encode
from visiongateway.v1 import call_pb2, image_pb2, vision_service_pb2 as pb, vision_service_pb2_grpc

# Pixels, JPEG quality: noise that comes to about 200 KB and 2 MB, and fits the model at the detail asked for.
IMAGES = (((640, 480), 77), ((1600, 1200), 92))
SETTINGS = """
[server]
grpc_address = "127.0.0.1:0"
http_address = "127.0.0.1:0"
log_level = "WARNING"
[ledger]
url = "off"
[cache]
store = "{store}"
[models.scripted]
kind = "fake"
profile = "gemma4"
price = "free"
remember = 0
"""
OFF, HIT, MISS = (
    call_pb2.CACHE_OUTCOME_UNSPECIFIED,
    call_pb2.CACHE_OUTCOME_HIT,
    call_pb2.CACHE_OUTCOME_MISS,
)


def noise(size, quality, seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return encode(Image.fromarray(pixels), "JPEG", quality=quality)


def caller(stub, images, words, expected):
    async def call():
        request = pb.VQARequest(
            image=image_pb2.Image(data=next(images)),
            question=next(words),
            options=call_pb2.CallOptions(image_detail=call_pb2.IMAGE_DETAIL_MAX),
        )
        assert (await stub.VQA(request, timeout=30)).info.cache == expected

    return call


async def measure(stack, folder, store, calls):
    settings = folder / "gateway.toml"
    settings.write_text(SETTINGS.format(store=store))
    gateway, address = stack.enter_context(process("tests.bench.gateway_process", str(settings)))
    channel = await stack.enter_async_context(grpc.aio.insecure_channel(address))
    stub = vision_service_pb2_grpc.VisionServiceStub(channel)
    for size, quality in IMAGES:
        files = [noise(size, quality, seed) for seed in range(calls)]
        one, same, other = itertools.repeat(files[0]), itertools.repeat("What is it?"), map(str, itertools.count())
        if store == "off":
            runs = [("no cache", one, same, OFF)]
        else:
            await caller(stub, one, same, MISS)()
            # Written behind the call.
            await asyncio.sleep(1)
            runs = [("hit", one, same, HIT), ("miss, seen", one, other, MISS)]
            runs.append(("miss, new", iter(files[1:]), same, MISS))
        for name, images, words, expected in runs:
            call = caller(stub, images, words, expected)
            count = calls - 1
            if name != "miss, new":
                await latencies(call, 30)
            before = cpu_s(gateway.pid)
            took = statistics.median(await latencies(call, count))
            cpu = (cpu_s(gateway.pid) - before) / count * 1000
            print(f"{store.partition(':')[0]:<8}{name:<12}{len(files[0]) // 1000:>6} KB{cpu:>9.2f} ms{took:>9.2f} ms")


async def main(calls):
    """Prints a row for each store, kind of call and image size."""
    print("store   call         image   CPU/call       p50")
    for _ in range(2):
        async with AsyncExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            for store in ("off", "memory", f"sqlite:///{folder}/cache.db"):
                await measure(stack, folder, store, calls)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=200)
    uvloop.run(main(**vars(parser.parse_args())))
