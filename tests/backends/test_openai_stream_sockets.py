"""What only a server that breaks the rules, or a bare socket, can show of a stream of OpenAI's."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing

import pytest
from structlog.testing import capture_logs

from gateway.backends import openai as openai_kind
from gateway.backends.openai import connect
from gateway.domain import Completion, ServiceTier
from gateway.errors import (
    BackendUnavailable,
    UnusableAnswer,
)
from gateway.usage import Usage
from tests.fixtures.openai_calls import PICTURE, options, stand_in, told, whole_request
from tests.fixtures.openai_streams import (
    CHUNKED,
    UNTIL_CLOSED,
    USAGE,
    chunk,
    delta,
    end,
    event,
    read,
    says,
    whole,
)

pytestmark = pytest.mark.usefixtures("unblocked_loop", "key")


async def test_usage_tier_and_model_are_those_of_the_last_event(prompt):
    last = end("a cat", usage=USAGE, service_tier="flex", model="gpt-5.5-2026-04-23")

    pieces, _ = await read(prompt, says(delta("a "), delta("cat"), last))

    completion = pieces.pop()
    first_s = completion.time_to_first_token_s
    assert (pieces, first_s > 0) == (["a ", "cat"], True)
    assert completion == Completion(
        "a cat",
        Usage(input_text=71, input_image=1229, cached_input=100, output=74, reasoning=64),
        provider_model="gpt-5.5-2026-04-23",
        service_tier=ServiceTier.FLEX,
        time_to_first_token_s=first_s,
    )


async def test_thoughts_are_no_text(prompt):
    thoughts = [
        event("response.reasoning_text.delta", delta="a dog?"),
        event("response.reasoning_summary_text.delta", delta="it thinks"),
        event("response.output_text.delta", delta="a cat"),
    ]

    pieces, _ = await read(prompt, says(*thoughts, end("a cat")))

    assert pieces[:-1] == ["a cat"]


async def test_events_without_a_name_are_read_by_their_data(prompt):
    parts = [part.partition(b"\n")[2] for part in (delta("a "), event("response.thinking", delta="?"), end("a cat"))]

    pieces, error = await read(prompt, says(*parts))

    assert (pieces[:-1], pieces[-1].text, error) == (["a "], "a cat", None)


@pytest.mark.parametrize("head", [CHUNKED, UNTIL_CLOSED], ids=["chunked", "until closed"])
async def test_bytes_may_be_cut_anywhere(prompt, head):
    async def talk(reader, writer):
        await whole_request(reader)
        writer.write(head)
        for byte in (delta("né") + delta("e 🐈") + end("née 🐈")).replace(b"\\u00e9", "é".encode()):
            one = bytes([byte])
            writer.write(chunk(one) if head is CHUNKED else one)
            await writer.drain()
        writer.write(b"0\r\n\r\n" if head is CHUNKED else b"")

    pieces, _ = await read(prompt, talk)

    assert (pieces[:-1], pieces[-1].text) == (["né", "e 🐈"], "née 🐈")


async def test_a_character_may_be_cut_in_two_as_javascript_counts(aimock, prompt):
    text = "a 🐈 on a 🛋️, by a 🪟"
    aimock.add({"match": {}, "response": {"content": text}, "chunkSize": 1})

    async with connect(options(aimock.base_url)) as backend:
        *pieces, last = (await told(backend.stream(prompt, (PICTURE,), timeout_s=10)))[0]

    assert ("".join(pieces), last.text) == (text, text)


async def test_where_pieces_and_the_whole_differ_the_whole_counts_and_the_log_says_so_once(prompt):
    with capture_logs() as logs:
        async with stand_in(says(delta("a dog"), end("a cat"))) as base_url, connect(options(base_url)) as backend:
            read = [(await told(backend.stream(prompt, (PICTURE,), timeout_s=10)))[0] for _ in range(2)]

    assert [pieces[-1].text for pieces in read] == ["a cat", "a cat"]
    assert [entry["event"] for entry in logs] == ["openai_stream_differs"]
    assert [word for word in ("cat", "dog") if word in str(logs)] == []


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (json.dumps(whole("a cat", usage=USAGE)).encode(), ("a cat", None)),
        (json.dumps(whole("", status="failed")).encode(), (None, BackendUnavailable)),
        (b"oops", (None, UnusableAnswer)),
    ],
    ids=["whole", "failed", "no json"],
)
async def test_a_server_that_does_not_stream_is_read_as_a_whole(prompt, body, expected):
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n"

    pieces, error = await read(prompt, says(body, head=head))

    assert ([piece.text for piece in pieces] or [None], error and type(error)) == ([expected[0]], expected[1])


async def test_a_connection_is_used_again_after_a_stream_whose_end_comes_a_little_later(prompt, monkeypatch):
    monkeypatch.setattr(openai_kind, "_READ_OUT_S", 10)
    connections = []

    async def talk(reader, writer):
        connections.append(writer)
        while True:
            await whole_request(reader)
            writer.write(CHUNKED + chunk(delta("a cat")) + chunk(end("a cat")))
            await asyncio.sleep(0.02)
            writer.write(b"0\r\n\r\n")

    async with stand_in(talk) as base_url, connect(options(base_url)) as backend:
        for _ in range(3):
            await told(backend.stream(prompt, (PICTURE,), timeout_s=10))

    assert len(connections) == 1


async def test_an_answer_does_not_wait_for_a_server_that_keeps_the_stream_open(prompt):
    async def talk(reader, writer):
        await whole_request(reader)
        writer.write(CHUNKED + chunk(delta("a cat")) + chunk(end("a cat")))
        await reader.read()

    pieces, error = await read(prompt, talk)

    assert (pieces[-1].text, error) == ("a cat", None)


async def test_nothing_is_read_while_nobody_asks_for_the_next_piece(prompt):
    stuck = asyncio.Event()
    noise = b": " + b"x" * (1 << 16) + b"\n"

    async def talk(reader, writer):
        await whole_request(reader)
        writer.transport.set_write_buffer_limits(0)
        writer.write(UNTIL_CLOSED + delta("a "))
        # More than the buffers of both ends and of the kernel between them take.
        for _ in range(1024):
            writer.write(noise)
            try:
                await asyncio.wait_for(writer.drain(), 0.5)
            except TimeoutError:
                stuck.set()
                await writer.drain()
        writer.write(end("a cat"))

    async with (
        stand_in(talk) as base_url,
        connect(options(base_url)) as backend,
        aclosing(backend.stream(prompt, (PICTURE,), timeout_s=60)) as stream,
    ):
        first = await anext(stream)
        await asyncio.wait_for(stuck.wait(), 20)
        [last] = [piece async for piece in stream]

    assert (first, last.text) == ("a ", "a cat")
