"""Measures what the adapters cost a call, against the least that a Python client can do.

    python -m tests.bench.backends_overhead [--kib 200] [--calls 200] [--rounds 5]

Prints, for each way of calling, the CPU time of this process a call (median of the rounds, in which all ways take
turns) and its ratio to the floor. The upstreams are toys in processes of their own. A run counts only if every answer
was right and the upstreams got every request whole.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field

import aiohttp
import grpc
import orjson
import pybase64
import uvloop
from openai import AsyncOpenAI
from tritonclient.grpc import service_pb2, service_pb2_grpc

from gateway.backends import openai, triton
from gateway.domain import ImagePlan, Prompt, SentImage
from tests.bench.upstreams import ANSWER
from tests.fixtures.kserve import strings

PROMPT = Prompt(rpc="Caption", system="You describe images.", user="Describe this image.", max_output_tokens=256)


@dataclass
class Way:
    """One way of calling an upstream; *call* gives the answer's text."""

    name: str
    call: Callable[[], Awaitable[str]]
    floor: str
    cpu_ms: dict[int, list[float]] = field(default_factory=dict)


@dataclass
class Upstream:
    """A toy upstream that runs; *got* is known once it has ended."""

    port: int
    got: tuple[int, int] = (0, 0)


@contextmanager
def upstream(kind):
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.upstreams", kind], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        running = Upstream(int(process.stdout.readline()))
        yield running
        requests, size = process.communicate()[0].split()
        running.got = (int(requests), int(size))


def openai_ways(port, image, session, backend, sdk):
    """Calls the Responses API: as the adapter does, with aiohttp alone, and as the SDK's own guide says."""
    url = f"http://127.0.0.1:{port}/v1/responses"

    def document(data_url):
        return {
            "model": "gpt-5.5",
            "instructions": PROMPT.system,
            "reasoning": {"effort": "none"},
            "max_output_tokens": PROMPT.max_output_tokens,
            "service_tier": "default",
            "store": False,
            "input": [
                {
                    "role": "user",
                    "content": [
                        {"type": "input_image", "detail": "high", "image_url": data_url},
                        {"type": "input_text", "text": PROMPT.user},
                    ],
                }
            ],
        }

    def data_url():
        return f"data:{image.media_type};base64,{pybase64.b64encode_as_string(image.data)}"

    async def floor():
        headers = {"content-type": "application/json", "authorization": "Bearer none"}
        async with session.post(url, data=orjson.dumps(document(data_url())), headers=headers) as response:
            answer = orjson.loads(await response.read())
        return answer["output"][0]["content"][0]["text"]

    async def adapter():
        return (await backend.complete(PROMPT, (image,), timeout_s=60)).text

    async def documented():
        return (await sdk.responses.create(**document(data_url()))).output_text

    return [
        Way("openai floor: aiohttp, orjson", floor, "openai floor: aiohttp, orjson"),
        Way("openai adapter", adapter, "openai floor: aiohttp, orjson"),
        Way("openai SDK as documented", documented, "openai floor: aiohttp, orjson"),
    ]


def triton_ways(image, stub, backend):
    """Calls ModelStreamInfer: as the adapter does, and with the raw stub."""

    def request():
        built = service_pb2.ModelInferRequest(model_name="m", id="r")
        for name, value in (("text_input", PROMPT.user.encode()), ("image_bytes", image.data)):
            built.inputs.add(name=name, datatype="BYTES", shape=(1,))
            built.raw_input_contents.append(strings(value))
        return built

    async def floor():
        text = b""
        async for reply in stub.ModelStreamInfer(iter((request(),)), timeout=60):
            text += reply.infer_response.raw_output_contents[0][4:]
        return text.decode()

    async def adapter():
        return (await backend.complete(PROMPT, (image,), timeout_s=60)).text

    return [
        Way("triton floor: raw stub", floor, "triton floor: raw stub"),
        Way("triton adapter", adapter, "triton floor: raw stub"),
    ]


async def measure(way, calls, concurrency):
    """Gives the CPU ms of this process a call, *concurrency* of them at once."""
    left = calls

    async def worker():
        nonlocal left
        while left > 0:
            left -= 1
            if await way.call() != ANSWER:
                raise RuntimeError(f"{way.name}: a wrong answer")

    before = time.process_time()
    await asyncio.gather(*(worker() for _ in range(concurrency)))
    return (time.process_time() - before) / calls * 1e3


async def run(args, http, kserve):
    """Measures every way in turns."""
    image = SentImage(os.urandom(args.kib << 10), "image/jpeg", ImagePlan(1024, 768, token_count=923, budget="280"))
    large = SentImage(image.data, image.media_type, ImagePlan(1024, 768, token_count=923, budget="high"))
    os.environ["BENCH_KEY"] = "none"
    base_url = f"http://127.0.0.1:{http.port}/v1"
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(aiohttp.ClientSession())
        sdk = await stack.enter_async_context(AsyncOpenAI(api_key="none", base_url=base_url, max_retries=0))
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(f"127.0.0.1:{kserve.port}"))
        by_openai = await stack.enter_async_context(
            openai.connect(openai.Options(base_url=base_url, api_key_env="BENCH_KEY"))
        )
        by_triton = await stack.enter_async_context(
            triton.connect(triton.Options(address=f"127.0.0.1:{kserve.port}", model="m"))
        )
        ways = [
            *openai_ways(http.port, large, session, by_openai, sdk),
            *triton_ways(image, service_pb2_grpc.GRPCInferenceServiceStub(channel), by_triton),
        ]
        for way in ways:
            await measure(way, 64, 32)
        for _ in range(args.rounds):
            for concurrency in args.concurrency:
                for way in ways:
                    cpu_ms = await measure(way, args.calls, concurrency)
                    way.cpu_ms.setdefault(concurrency, []).append(cpu_ms)
    return ways


def main():
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kib", type=int, default=200, help="size of the image in KiB")
    parser.add_argument("--calls", type=int, default=200, help="calls of each way in each round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 32])
    args = parser.parse_args()
    with upstream("http") as http, upstream("triton") as kserve:
        ways = uvloop.run(run(args, http, kserve))
    for kind, got in (("openai", http.got), ("triton", kserve.got)):
        sent = sum(way.name.startswith(kind) for way in ways) * (64 + args.calls * args.rounds * len(args.concurrency))
        if got[0] != sent or got[1] < sent * (args.kib << 10):
            raise SystemExit(f"{kind}: {sent} requests were sent, but {got[0]} of {got[1]} bytes arrived")
    medians = {(way.name, at): statistics.median(ms) for way in ways for at, ms in way.cpu_ms.items()}
    print(f"CPU ms a call, {args.kib} KiB image, median of {args.rounds} rounds of {args.calls} calls (ratio to floor)")
    for way in ways:
        figures = (
            f"c={at}: {medians[way.name, at]:.2f} ({medians[way.name, at] / medians[way.floor, at]:.2f})"
            for at in args.concurrency
        )
        print(f"  {way.name:32}", "   ".join(figures))


if __name__ == "__main__":
    main()
