"""Toy upstreams for the benchmarks: they read the whole request, answer at once or as the question says, and count.

`python -m tests.bench.upstreams http|triton` prints its port, and, when its standard input closes, how many requests
and how many bytes of them it got.
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import orjson
import uvloop

ANSWER = "A tabby cat on a wooden table, looking at the camera."
_BODY = orjson.dumps(
    {
        "id": "resp_1",
        "object": "response",
        "status": "completed",
        "model": "gpt-5.5-2026-04-23",
        "service_tier": "default",
        "output": [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": ANSWER}]}],
        "usage": {
            "input_tokens": 1400,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": 138,
            "output_tokens_details": {"reasoning_tokens": 0},
        },
    }
)
_HTTP = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(_BODY) + _BODY
# What a question has to say to be answered by numbers, each a piece of its own and in its time.
SCRIPT = re.compile(rb"say (\d+) words, the first after (\d+) ms, then one every (\d+) ms")
_MOST_WORDS = 10_000
_EMPTY = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"


class Count:
    """What came in."""

    requests = 0
    bytes = 0


class Http(asyncio.Protocol):
    """HTTP/1.1 with a content-length, and no more."""

    def __init__(self, count: Count) -> None:
        self._count = count
        self._head = b""
        self._missing: int | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._count.bytes += len(data)
        if self._missing is None:
            self._head += data
            end = self._head.find(b"\r\n\r\n")
            if end < 0:
                return
            if self._head.startswith(b"HEAD"):
                self._head = b""
                self._transport.write(_EMPTY)
                return
            length = self._head[:end].lower().split(b"content-length:")[1].split(b"\r\n")[0]
            self._missing = int(length) - (len(self._head) - end - 4)
            self._head = b""
        else:
            self._missing -= len(data)
        if self._missing == 0:
            self._missing = None
            self._count.requests += 1
            self._transport.write(_HTTP)


@asynccontextmanager
async def http(count: Count) -> AsyncIterator[int]:
    """Serves the Responses API's one answer."""
    server = await asyncio.get_running_loop().create_server(lambda: Http(count), "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()


@asynccontextmanager
async def triton(count: Count) -> AsyncIterator[int]:
    """Serves the contract's one answer over KServe v2."""
    import grpc  # noqa: PLC0415  only this upstream needs it
    from tritonclient.grpc import service_pb2, service_pb2_grpc  # noqa: PLC0415  likewise

    from tests.fixtures.kserve import contract_config, part, whole  # noqa: PLC0415  likewise

    words = [part(f"{number} ") for number in range(_MOST_WORDS)]
    end = part(finish_reason="stop", tokens=(300, 12), final=True)

    class Servicer(service_pb2_grpc.GRPCInferenceServiceServicer):
        async def ModelStreamInfer(self, request_iterator, context):  # noqa: N802  gRPC's name
            async for request in request_iterator:
                count.requests += 1
                count.bytes += sum(map(len, request.raw_input_contents))
                asked = next((SCRIPT.search(raw) for raw in request.raw_input_contents if SCRIPT.search(raw)), None)
                if asked is None:
                    yield whole(ANSWER)
                    continue
                number, first_ms, pause_ms = map(int, asked.groups())
                due = asyncio.get_running_loop().time() + first_ms / 1000
                for word in words[:number]:
                    await asyncio.sleep(due - asyncio.get_running_loop().time())
                    yield word
                    due += pause_ms / 1000
                yield end

        async def ModelConfig(self, request, context):  # noqa: N802  gRPC's name
            return service_pb2.ModelConfigResponse(config=contract_config())

    server = grpc.aio.server(options=[("grpc.max_receive_message_length", -1)])
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(Servicer(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield port
    await server.stop(None)


async def main(kind: str) -> None:
    """Serves until standard input closes."""
    count = Count()
    async with {"http": http, "triton": triton}[kind](count) as port:
        print(port, flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    print(count.requests, count.bytes)


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1]))
