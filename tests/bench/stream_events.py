"""Measures what an event of OpenAI's stream costs the adapter, against the SDK's own stream and a bare client.

    python -m tests.bench.stream_events [--words 144 1000] [--calls 20] [--rounds 5]

Prints, for each way of reading, the CPU time of this process a stream and a word (median of the rounds, in which all
ways take turns), and the time to the first word (median of all calls, one at a time). The upstream is a toy in a
process of its own. *one by one*: an event a millisecond, so that the reader wakes up for each; *at once*: all in one
write. A run counts only if every text was right.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import statistics
import subprocess
import sys
import time
from contextlib import aclosing
from dataclasses import dataclass, field

import aiohttp
import orjson
import uvloop
from openai import AsyncOpenAI

from gateway.backends import openai
from gateway.domain import Completion, Prompt

_SCRIPT = re.compile(rb"say (\d+) words (one by one|at once)")
_PAUSE_S = 0.001
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


@dataclass
class Way:
    """One way of reading a stream; *read* gives its text and the seconds to its first word."""

    name: str
    read: object
    cpu_ms: dict[tuple, list[float]] = field(default_factory=dict)
    first_ms: dict[tuple, list[float]] = field(default_factory=dict)


def text(words):
    return "".join(f"word{number} " for number in range(words))


def events(words):
    """What OpenAI sends for an answer of so many words."""
    response = {"id": "resp_1", "object": "response", "created_at": 1, "model": "gpt-5.5-2026-04-23", "tools": []}
    response |= {"parallel_tool_calls": True, "tool_choice": "auto", "metadata": {}}
    started = {**response, "status": "in_progress", "output": []}
    at = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
    said = {**part, "text": text(words)}
    item = {"id": "msg_1", "type": "message", "role": "assistant", "status": "in_progress", "content": []}
    ended = {**item, "status": "completed", "content": [said]}
    usage = {"input_tokens": 1400, "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0}}
    usage |= {"output_tokens": words, "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 1400 + words}
    yield "response.created", {"response": started}
    yield "response.in_progress", {"response": started}
    yield "response.output_item.added", {"output_index": 0, "item": item}
    yield "response.content_part.added", {**at, "part": part}
    for number in range(words):
        yield "response.output_text.delta", {**at, "delta": f"word{number} ", "logprobs": []}
    yield "response.output_text.done", {**at, "text": text(words), "logprobs": []}
    yield "response.content_part.done", {**at, "part": said}
    yield "response.output_item.done", {"output_index": 0, "item": ended}
    yield "response.completed", {"response": {**response, "status": "completed", "output": [ended], "usage": usage}}


def chunks(words):
    for number, (kind, fields) in enumerate(events(words)):
        data = orjson.dumps({"type": kind, "sequence_number": number, **fields})
        event = b"event: %b\ndata: %b\n\n" % (kind.encode(), data)
        yield b"%x\r\n%b\r\n" % (len(event), event)
    yield b"0\r\n\r\n"


async def serve():
    """Serves until standard input closes."""
    written = {}

    async def talk(reader, writer):
        while head := await reader.readline():
            head += await reader.readuntil(b"\r\n\r\n")
            length = int(re.search(rb"content-length: (\d+)", head.lower())[1])
            words, pace = _SCRIPT.search(await reader.readexactly(length)).groups()
            parts = written.setdefault(words, [*chunks(int(words))])
            writer.write(_HEAD)
            if pace == b"at once":
                writer.write(b"".join(parts))
                continue
            for part in parts:
                writer.write(part)
                await asyncio.sleep(_PAUSE_S)

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


def bare(port, session):
    """The least that a Python client can do."""
    url = f"http://127.0.0.1:{port}/v1/responses"

    async def read(question):
        body = orjson.dumps({"model": "gpt-5.5", "stream": True, "input": question})
        started, first, said, whole = time.perf_counter(), None, [], None
        async with session.post(url, data=body, headers={"content-type": "application/json"}) as response:
            async for line in response.content:
                if line.startswith(b'data: {"type":"response.output_text.delta"'):
                    first = first or time.perf_counter()
                    said.append(orjson.loads(line[6:])["delta"])
                elif line.startswith(b'data: {"type":"response.completed"'):
                    whole = orjson.loads(line[6:])["response"]["output"][0]["content"][0]["text"]
        return whole, said, first - started

    return read


def adapter(backend):
    """As the gateway does."""

    async def read(question):
        started, first, said, whole = time.perf_counter(), None, [], None
        prompt = Prompt(rpc="Caption", user=question, max_output_tokens=256)
        async with aclosing(backend.stream(prompt, (), timeout_s=60)) as pieces:
            async for piece in pieces:
                if isinstance(piece, Completion):
                    whole = piece.text
                    break
                first = first or time.perf_counter()
                said.append(piece)
        return whole, said, first - started

    return read


def documented(sdk):
    """As the SDK's own guide does."""

    async def read(question):
        started, first, said, whole = time.perf_counter(), None, [], None
        async with await sdk.responses.create(model="gpt-5.5", input=question, stream=True) as stream:
            async for event in stream:
                if event.type == "response.output_text.delta":
                    first = first or time.perf_counter()
                    said.append(event.delta)
                elif event.type == "response.completed":
                    whole = event.response.output_text
        return whole, said, first - started

    return read


async def measure(way, shape, calls):
    words, pace = shape
    right, firsts = text(words), []
    before = time.process_time()
    for _ in range(calls):
        whole, said, first_s = await way.read(f"say {words} words {pace}")
        if not whole == "".join(said) == right or len(said) != words:
            raise RuntimeError(f"{way.name}: a wrong text")
        firsts.append(first_s * 1e3)
    return (time.process_time() - before) / calls * 1e3, firsts


async def run(args, port):
    """Measures every way in turns."""
    os.environ["BENCH_KEY"] = "none"
    base_url = f"http://127.0.0.1:{port}/v1"
    shapes = [(words, pace) for words in args.words for pace in ("one by one", "at once")]
    async with (
        aiohttp.ClientSession() as session,
        AsyncOpenAI(api_key="none", base_url=base_url, max_retries=0) as sdk,
        openai.connect(openai.Options(base_url=base_url, api_key_env="BENCH_KEY")) as backend,
    ):
        told = [
            Way("bare: aiohttp, orjson", bare(port, session)),
            Way("adapter", adapter(backend)),
            Way("SDK, stream=True", documented(sdk)),
        ]
        for way in told:
            for shape in shapes:
                await measure(way, shape, 2)
        for _ in range(args.rounds):
            for shape in shapes:
                for way in told:
                    cpu_ms, firsts = await measure(way, shape, args.calls)
                    way.cpu_ms.setdefault(shape, []).append(cpu_ms)
                    way.first_ms.setdefault(shape, []).extend(firsts)
    return told


def main():
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--words", type=int, nargs="+", default=[144, 1000])
    parser.add_argument("--calls", type=int, default=5, help="streams of each way in each round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        uvloop.run(serve())
        return
    with subprocess.Popen(
        [sys.executable, "-m", "tests.bench.stream_events", "--serve"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        told = uvloop.run(run(args, int(process.stdout.readline())))
        process.stdin.close()
    print("| Words | Way | CPU ms a stream | us a word | ms to the first word |")
    print("| --- | --- | --- | --- | --- |")
    for words, pace in told[0].cpu_ms:
        for way in told:
            cpu_ms = statistics.median(way.cpu_ms[words, pace])
            first_ms = statistics.median(way.first_ms[words, pace])
            print(f"| {words} {pace} | {way.name} | {cpu_ms:.2f} | {cpu_ms / words * 1e3:.1f} | {first_ms:.2f} |")


if __name__ == "__main__":
    main()
