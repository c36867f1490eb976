"""When a model at an OpenAI-compatible server is ready, and what its key has to do with it."""

from __future__ import annotations

import pytest

from gateway.backends.openai import connect
from gateway.errors import (
    BackendUnavailable,
    UpstreamAuth,
)
from tests.fixtures.openai_calls import KEY, PICTURE, failure, options, stand_in, whole_request

pytestmark = pytest.mark.usefixtures("unblocked_loop", "key")


async def test_a_server_that_answers_anything_is_ready(openai):
    assert await openai.ready()


async def test_without_a_key_nothing_is_ready_and_nothing_is_sent(llmock, monkeypatch, prompt):
    monkeypatch.delenv("VISION_GATEWAY_TEST_KEY")

    async with connect(options(llmock.base_url())) as backend:
        assert not await backend.ready()
        assert type(await failure(backend, prompt)) is UpstreamAuth

    assert llmock.requests == []


async def test_the_key_can_come_from_a_file(tmp_path, prompt):
    heads = []

    async def talk(reader, _writer):
        heads.append((await whole_request(reader))[0])

    (tmp_path / "key").write_text("sk-from-a-file\n")
    async with stand_in(talk) as base_url, connect(options(base_url, api_key_file=tmp_path / "key")) as backend:
        await failure(backend, prompt)

    assert b"\r\nauthorization: bearer sk-from-a-file\r\n" in heads[0].lower()


async def test_a_look_at_the_server_sends_no_key():
    heads = []

    async def talk(reader, writer):
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")
        await writer.drain()

    async with stand_in(talk) as base_url, connect(options(base_url)) as backend:
        assert await backend.ready()

    assert heads[0].startswith(b"HEAD /v1 ")
    assert KEY.encode() not in heads[0]


async def test_a_server_that_answered_lately_is_not_looked_at_again(openai, llmock, clock, prompt):
    await openai.complete(prompt, (PICTURE,), timeout_s=10)
    clock.now += 14
    llmock.outage()

    assert await openai.ready()

    clock.now += 2
    assert not await openai.ready()


async def test_a_server_that_is_not_there_is_not_ready(unused_address, prompt):
    async with connect(options(f"http://{unused_address}/v1")) as backend:
        assert not await backend.ready()
        assert type(await failure(backend, prompt)) is BackendUnavailable


async def test_a_lost_connection_is_looked_into_at_once(clock, prompt):
    async def talk(reader, writer):
        if (await reader.readuntil(b"\r\n\r\n")).startswith(b"HEAD"):
            writer.write(b"HTTP/1.1 503 Down\r\ncontent-length: 0\r\n\r\n")
            await writer.drain()

    async with stand_in(talk) as base_url, connect(options(base_url), clock=clock) as backend:
        assert type(await failure(backend, prompt)) is BackendUnavailable
        assert not await backend.ready()


@pytest.mark.parametrize(("status", "code"), [(401, "invalid_api_key"), (429, "insufficient_quota"), (404, "")])
async def test_what_the_operator_must_mend_keeps_the_model_unready_for_a_minute(aimock, clock, prompt, status, code):
    aimock.fail(status, code=code)

    async with connect(options(aimock.base_url), clock=clock) as backend:
        await failure(backend, prompt)
        clock.now += 59
        assert not await backend.ready()

        clock.now += 1
        assert await backend.ready()


async def test_a_call_that_succeeds_ends_the_minute(aimock, clock, prompt):
    aimock.fail(401)

    async with connect(options(aimock.base_url), clock=clock) as backend:
        await failure(backend, prompt)
        aimock.reset()
        aimock.answer("a cat")
        await backend.complete(prompt, (PICTURE,), timeout_s=10)

        assert await backend.ready()
