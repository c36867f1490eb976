"""Measures what the gateway adds to a call whose image needs no resizing.

    python -m tests.bench.gateway_overhead [--calls 300] [--rounds 5]

For each upstream (a toy that reads the whole request and answers at once, in a process of its own) and each image size,
the same image is sent straight to the upstream and through the gateway, in turns. Prints the latency added (p50 and p95
of the gateway's calls less the p50 of the direct ones), the gateway's CPU time a call (its whole process tree), and
calls a second with 32 in flight. A run counts only if every answer was right.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

import aiohttp
import grpc
import numpy as np
import orjson
import pybase64
import uvloop
from PIL import Image
from tritonclient.grpc import service_pb2

from tests.bench.upstreams import ANSWER
from visiongateway.v1 import call_pb2, image_pb2, vision_service_pb2 as pb, vision_service_pb2_grpc

IN_FLIGHT = 32
# Pixels, JPEG quality: noise that comes to about 200 KB and 2 MB, and fits the models at the detail asked for.
IMAGES = (((640, 480), 77), ((1600, 1200), 92))


def jpeg(size, quality):
    noise = np.random.default_rng(7).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(noise).save(out, "JPEG", quality=quality)
    return out.getvalue()


@contextmanager
def process(*arguments):
    child = subprocess.Popen(
        [sys.executable, "-m", *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        yield child, child.stdout.readline().strip()
    finally:
        child.stdin.close()
        child.wait(30)


def cpu_s(pid):
    """CPU seconds of *pid* and its living children, from /proc."""
    ticks = 0
    for each in (pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())):
        fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def rss_mb(pid):
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    raise LookupError("VmRSS")


async def direct_triton(stack, port, image):
    channel = await stack.enter_async_context(
        grpc.aio.insecure_channel(f"127.0.0.1:{port}", [("grpc.max_send_message_length", -1)])
    )
    infer = channel.unary_stream(
        "/inference.GRPCInferenceService/ModelStreamInfer",
        request_serializer=service_pb2.ModelInferRequest.SerializeToString,
        response_deserializer=service_pb2.ModelStreamInferResponse.FromString,
    )
    size = len(image).to_bytes(4, "little")

    async def call():
        request = service_pb2.ModelInferRequest(model_name="gemma4", raw_input_contents=[size + image])
        async for response in infer(request, timeout=30):
            assert ANSWER.encode() in response.infer_response.raw_output_contents[0]

    return call


async def direct_http(stack, port, image):
    session = await stack.enter_async_context(aiohttp.ClientSession())

    async def call():
        url = b"data:image/jpeg;base64," + pybase64.b64encode(image)
        body = orjson.dumps({"model": "gpt-5.5", "input": [{"type": "input_image", "image_url": url.decode()}]})
        async with session.post(f"http://127.0.0.1:{port}/v1/responses", data=body) as response:
            assert ANSWER.encode() in await response.read()

    return call


def through_gateway(stub, model, image):
    request = pb.VQARequest(
        image=image_pb2.Image(data=image),
        question="What is it?",
        options=call_pb2.CallOptions(model=model, image_detail=call_pb2.IMAGE_DETAIL_MAX),
    )

    async def call():
        response = await stub.VQA(request, timeout=30)
        assert response.answer == ANSWER
        sent = response.info.image
        assert (sent.sent_width_px, sent.sent_height_px) == (sent.width_px, sent.height_px)

    return call


async def latencies(call, count):
    found = []
    for _ in range(count):
        started = time.perf_counter()
        await call()
        found.append((time.perf_counter() - started) * 1000)
    return found


async def calls_a_second(call, count):
    left = iter(range(count))

    async def worker():
        for _ in left:
            await call()

    started = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(IN_FLIGHT):
            group.create_task(worker())
    return count / (time.perf_counter() - started)


async def measure(gateway_pid, direct, through, *, calls, rounds):
    await latencies(direct, 30)
    await latencies(through, 30)
    straight, added, cpu, rate = [], [], [], []
    for _ in range(rounds):
        straight += await latencies(direct, calls)
        before = cpu_s(gateway_pid)
        added += await latencies(through, calls)
        cpu.append((cpu_s(gateway_pid) - before) / calls * 1000)
        rate.append(await calls_a_second(through, calls))
    base = statistics.median(straight)
    p95 = statistics.quantiles(added, n=20)[18]
    return base, statistics.median(added) - base, p95 - base, statistics.median(cpu), statistics.median(rate)


async def main(calls, rounds):
    """Prints a row for each upstream and image size."""
    os.environ["OPENAI_API_KEY"] = "sk-none"
    async with AsyncExitStack() as stack:
        _, triton_port = stack.enter_context(process("tests.bench.upstreams", "triton"))
        _, http_port = stack.enter_context(process("tests.bench.upstreams", "http"))
        settings = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "gateway.toml"
        settings.write_text(
            f'[server]\ngrpc_address = "127.0.0.1:0"\nhttp_address = "127.0.0.1:0"\nlog_level = "WARNING"\n'
            f'[ledger]\nurl = "sqlite:///{settings.parent}/ledger.db"\n'
            f'[models.gemma]\nkind = "triton"\naddress = "127.0.0.1:{triton_port}"\nmodel = "gemma4"\n'
            f'[models.gpt]\nkind = "openai"\nbase_url = "http://127.0.0.1:{http_port}/v1"\n'
        )
        gateway, address = stack.enter_context(process("tests.bench.gateway_process", str(settings)))
        print(f"gateway at rest: {rss_mb(gateway.pid):.0f} MB resident")
        channel = await stack.enter_async_context(
            grpc.aio.insecure_channel(address, [("grpc.max_send_message_length", -1)])
        )
        stub = vision_service_pb2_grpc.VisionServiceStub(channel)
        print("upstream      image   direct p50    added p50    added p95     CPU/call  calls/s")
        for size, quality in IMAGES:
            image = jpeg(size, quality)
            for name, direct, port in (("gemma", direct_triton, triton_port), ("gpt", direct_http, http_port)):
                straight = await direct(stack, port, image)
                base, p50, p95, cpu, rate = await measure(
                    gateway.pid, straight, through_gateway(stub, name, image), calls=calls, rounds=rounds
                )
                times = "".join(f"{value:>10.2f} ms" for value in (base, p50, p95, cpu))
                print(f"{name:<9}{len(image) // 1000:>6} KB{times}{rate:>9.0f}")
        print(f"gateway after it: {rss_mb(gateway.pid):.0f} MB resident")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=5)
    uvloop.run(main(**vars(parser.parse_args())))
