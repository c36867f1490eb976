"""What only a bare socket, or a server that breaks the rules, can show of a model at OpenAI."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import replace

import pytest

from gateway.backends.openai import connect
from gateway.domain import ServiceTier
from gateway.errors import (
    BackendUnavailable,
    DeadlineExceeded,
    UnsupportedByModel,
    UnusableAnswer,
)
from tests.fixtures.openai_calls import PICTURE, failure, options, stand_in, whole_request

pytestmark = pytest.mark.usefixtures("unblocked_loop", "key")


@pytest.mark.parametrize("timeout_s", [0.2, None])
async def test_a_call_given_up_ends_at_the_server_too(prompt, timeout_s):
    got, gone = asyncio.Event(), asyncio.Event()

    async def talk(reader, _writer):
        await whole_request(reader)
        got.set()
        await reader.read()
        gone.set()

    async with stand_in(talk) as base_url, connect(options(base_url)) as backend:
        call = asyncio.create_task(backend.complete(prompt, (PICTURE,), timeout_s=timeout_s or 60))
        await asyncio.wait_for(got.wait(), 10)
        if timeout_s is None:
            call.cancel()

        with pytest.raises(asyncio.CancelledError if timeout_s is None else DeadlineExceeded):
            await call
        await asyncio.wait_for(gone.wait(), 10)


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 4\r\n\r\nnope",
    ],
)
async def test_a_server_that_breaks_http_is_unavailable(prompt, said):
    async def talk(reader, writer):
        await whole_request(reader)
        writer.write(said)
        await writer.drain()

    async with stand_in(talk) as base_url, connect(options(base_url)) as backend:
        assert type(await failure(backend, prompt)) is BackendUnavailable


@pytest.mark.parametrize(
    ("said", "estimated"),
    [(b"", False), (b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{", True)],
    ids=["before the answer", "within the answer"],
)
async def test_an_answer_that_breaks_off_is_billed_by_estimate_and_a_call_without_one_is_not(prompt, said, estimated):
    async def talk(reader, writer):
        await whole_request(reader)
        writer.write(said)
        await writer.drain()

    async with stand_in(talk) as base_url, connect(options(base_url)) as backend:
        error = await failure(backend, replace(prompt, service_tier=ServiceTier.FLEX))

    assert (error.usage is not None, error.estimated, error.service_tier) == (
        estimated,
        estimated,
        "flex" if estimated else None,
    )


async def test_an_answer_that_is_not_json_is_unusable(prompt):
    async def talk(reader, writer):
        await whole_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 4\r\n\r\noops")
        await writer.drain()

    async with stand_in(talk) as base_url, connect(options(base_url)) as backend:
        assert type(await failure(backend, prompt)) is UnusableAnswer


async def test_a_server_that_refuses_before_it_has_the_body_is_heard(prompt):
    async def talk(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        await writer.drain()
        await reader.read()

    large = replace(PICTURE, data=bytes(3 << 20))
    async with stand_in(talk) as base_url, connect(options(base_url)) as backend:
        with pytest.raises(UnsupportedByModel):
            await backend.complete(prompt, (large,), timeout_s=10)


async def test_a_redirect_is_not_followed(aimock, prompt):
    async def talk(reader, writer):
        await whole_request(reader)
        writer.write(f"HTTP/1.1 307 Over there\r\nlocation: {aimock.base_url}/responses\r\n".encode())
        writer.write(b"content-length: 0\r\n\r\n")
        await writer.drain()

    async with stand_in(talk) as base_url, connect(options(base_url)) as backend:
        assert type(await failure(backend, prompt)) is BackendUnavailable

    assert aimock.journal() == []


async def test_a_server_that_accepts_no_connection_in_time_leaves_the_caller_time_for_another(prompt):
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        with socket.create_connection(full.getsockname()), socket.socket() as second:
            second.setblocking(False)  # noqa: FBT003  the socket's own way
            second.connect_ex(full.getsockname())
            base_url = f"http://127.0.0.1:{full.getsockname()[1]}/v1"
            async with connect(options(base_url, connect_timeout_s=0.2)) as backend:
                assert type(await failure(backend, prompt)) is BackendUnavailable
