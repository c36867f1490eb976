"""Those who read streams: one that stops, and very many at once."""

from __future__ import annotations

import asyncio
import re

from grpc import StatusCode

from tests.fixtures.kserve import part
from tests.fixtures.streams import caption, on_triton, picture, read
from visiongateway.v1 import vision_service_pb2 as pb

PIECE = "x" * 1_048_576
# Each of the two connections takes what its HTTP/2 windows allow, which gRPC lets grow to some 6 MB on a fast one.
MOST_ON_THE_WAY = 32_000_000
STREAMS, WORDS = 500, 20


class Endless:
    """A script that writes as fast as it is read, and counts."""

    def __init__(self):
        self.sent = 0
        self.ended = asyncio.Event()

    async def __call__(self, _request, _context):
        try:
            while True:
                yield part(PIECE)
                self.sent += len(PIECE)
        finally:
            self.ended.set()


async def test_a_caller_that_stops_reading_stops_the_model_and_its_deadline_ends_the_call(start_gateway, kserve):
    kserve.script = endless = Endless()
    gateway = await start_gateway(models={"gemma": on_triton(kserve.address)})
    call = gateway.stub.StreamCaption(caption(), timeout=3)
    first = await anext(aiter(call))

    code = await call.code()
    await asyncio.wait_for(endless.ended.wait(), 10)

    assert (first.delta, code) == (PIECE, StatusCode.DEADLINE_EXCEEDED)
    assert endless.sent < MOST_ON_THE_WAY


async def test_a_caller_without_a_deadline_that_stops_reading_has_the_gateways(start_gateway, kserve):
    kserve.script = endless = Endless()
    models = {"gemma": on_triton(kserve.address)}
    gateway = await start_gateway(models=models, server={"default_deadline_s": 2})
    messages = aiter(gateway.stub.StreamCaption(caption()))
    await anext(messages)

    await asyncio.wait_for(endless.ended.wait(), 10)
    _, page = await gateway.get("/metrics")
    deltas, answer, failed = await read(messages)

    assert 'vision_gateway_inflight{scope="server"} 0.0' in page.splitlines()
    assert set("".join(deltas)) == {"x"}
    assert (answer, failed.reason, failed.info.metadata["partial"]) == (None, "DEADLINE", "true")


async def test_five_hundred_streams_at_once_lose_and_mix_up_nothing(start_gateway, kserve):
    all_there = asyncio.Barrier(STREAMS)

    async def count(request, _context):
        (name,) = next(found for raw in request.raw_input_contents if (found := re.findall(rb"caller \d+", raw)))
        await all_there.wait()
        for number in range(WORDS):
            yield part(f"{name.decode()} word {number}, ")
            await asyncio.sleep(0)
        yield part(finish_reason="stop", tokens=(300, WORDS), final=True)

    kserve.script = count
    models = {"gemma": on_triton(kserve.address, max_inflight=STREAMS)}
    gateway = await start_gateway(models=models, server={"max_inflight": STREAMS})
    image = picture()
    calls = [
        gateway.stub.StreamVQA(pb.StreamVQARequest(image=image, question=f"I am caller {number}."), timeout=100)
        for number in range(STREAMS)
    ]

    answers = await asyncio.gather(*map(read, calls))

    for number, (deltas, answer, failed) in enumerate(answers):
        expected = "".join(f"caller {number} word {word}, " for word in range(WORDS)).rstrip()
        assert ("".join(deltas), answer.answer, failed) == (expected, expected, None)
