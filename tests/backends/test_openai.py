"""Against two OpenAI-compatible servers that others wrote, llmock and aimock; a stand-in where neither can do it."""

from __future__ import annotations

import asyncio
import base64
import socket
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from pydantic import ValidationError
from structlog.testing import capture_logs

from gateway.backends.openai import Options, connect
from gateway.domain import Completion, ImagePlan, Reasoning, SentImage, ServiceTier
from gateway.errors import (
    BackendUnavailable,
    DeadlineExceeded,
    GatewayError,
    InvalidImage,
    TruncatedAnswer,
    UnsupportedByModel,
    UnusableAnswer,
    UpstreamAccount,
    UpstreamAuth,
    UpstreamRateLimited,
)
from gateway.usage import Usage

pytestmark = pytest.mark.usefixtures("unblocked_loop")
KEY = "sk-secret-of-the-gateway"
PICTURE = SentImage(bytes(range(256)) * 600, "image/jpeg", ImagePlan(1024, 1024, token_count=1229, budget="high"))
UNTOLD = Usage(input_text=5, input_image=1229)


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("VISION_GATEWAY_TEST_KEY", KEY)


def options(base_url, **more):
    return Options(base_url=base_url, api_key_env="VISION_GATEWAY_TEST_KEY", **more)


@pytest.fixture
async def openai(llmock, clock):
    async with connect(options(llmock.base_url()), clock=clock) as backend:
        yield backend


async def failure(backend, prompt, timeout_s=10):
    with pytest.raises(GatewayError) as caught:
        await backend.complete(prompt, (PICTURE,), timeout_s=timeout_s)
    return caught.value


@asynccontextmanager
async def stand_in(talk):
    """A server that does nothing but *talk*, for what a mock of the API cannot do."""
    talks = set()

    async def serve(reader, writer):
        talks.add(asyncio.current_task())
        try:
            await talk(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    finally:
        server.close()
        for each in talks:
            each.cancel()
        await asyncio.gather(*talks, return_exceptions=True)


async def whole_request(reader):
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    return head, await reader.readexactly(int(length.split(b":")[1]))


# With aimock, whose usage can be scripted and which writes down what it got.


async def test_the_cost_of_the_seed_comparison_comes_through_exactly(aimock, prompt):
    aimock.answer("a cat", usage={"input_tokens": 1400, "output_tokens": 138}, model="gpt-5.5-2026-04-23")

    async with connect(options(aimock.base_url)) as backend:
        answer = await backend.complete(prompt, (PICTURE,), timeout_s=10)

    assert answer == Completion(
        "a cat", Usage(input_text=171, input_image=1229, output=138), provider_model="gpt-5.5-2026-04-23"
    )


async def test_the_provider_can_find_a_call_by_the_gateways_request_id(aimock, prompt):
    aimock.answer("a cat")

    async with connect(options(aimock.base_url)) as backend:
        await backend.complete(prompt, (PICTURE,), timeout_s=10)

    (entry,) = aimock.journal()
    assert (entry["path"], entry["headers"]["x-client-request-id"]) == ("/v1/responses", "req-1")


async def test_an_incomplete_answer_without_details_was_cut_off(aimock, prompt):
    aimock.answer("a c", finishReason="length", usage={"input_tokens": 1400, "output_tokens": 256})

    async with connect(options(aimock.base_url)) as backend:
        error = await failure(backend, prompt)

    assert (type(error), error.usage.output, error.elsewhere) == (TruncatedAnswer, 256, False)


async def test_no_call_is_tried_twice(aimock, prompt):
    aimock.fail(503, message="overloaded")

    async with connect(options(aimock.base_url)) as backend:
        assert type(await failure(backend, prompt)) is BackendUnavailable

    assert len(aimock.journal()) == 1


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (400, "invalid_base64_image", InvalidImage),
        (400, "unsupported_value", UnsupportedByModel),
        (401, "invalid_api_key", UpstreamAuth),
        (404, "model_not_found", BackendUnavailable),
        (429, "insufficient_quota", UpstreamAccount),
        (429, "rate_limit_exceeded", UpstreamRateLimited),
        (500, "server_error", BackendUnavailable),
    ],
)
async def test_an_http_error_is_read_by_its_code_and_its_text_stays_here(aimock, prompt, status, code, expected):
    aimock.fail(status, message=f"you sent {KEY}", type="some_error", code=code)

    with capture_logs() as logs:
        async with connect(options(aimock.base_url)) as backend:
            error = await failure(backend, prompt)

    assert type(error) is expected
    assert KEY not in f"{error!r} {error.metadata} {logs}"


# With llmock, which estimates usage itself, checks schemas, and grades its client.


async def test_the_request_arrives_as_it_was_written(openai, llmock, prompt):
    llmock.reply("a cat")

    await openai.complete(prompt, (PICTURE,), timeout_s=10)

    (image, text) = llmock.last_request.body["input"][0]["content"]
    assert base64.b64decode(image["image_url"].removeprefix("data:image/jpeg;base64,")) == PICTURE.data
    assert text == {"type": "input_text", "text": prompt.user}


async def test_a_schema_gets_an_answer_of_its_form(openai, prompt):
    schema = {
        "type": "object",
        "properties": {"label": {"enum": ["cat", "dog"]}},
        "required": ["label"],
        "additionalProperties": False,
    }

    answer = await openai.complete(replace(prompt, schema=schema, schema_name="pick"), (PICTURE,), timeout_s=10)

    assert answer.text in ('{"label": "cat"}', '{"label": "dog"}')


async def test_a_server_that_tells_no_tier_is_billed_by_the_one_asked_for(openai, prompt):
    answer = await openai.complete(replace(prompt, service_tier=ServiceTier.PRIORITY), (PICTURE,), timeout_s=10)

    assert answer.service_tier is ServiceTier.PRIORITY


async def test_a_rate_limit_says_when_to_try_again(openai, llmock, prompt):
    llmock.rate_limit(retry_after=2.5)

    error = await failure(openai, prompt)

    assert (type(error), error.retry_after_s) == (UpstreamRateLimited, 2.5)


async def test_a_request_longer_than_the_context_is_none_for_this_model(openai, llmock, prompt):
    llmock.context_overflow()

    error = await failure(openai, prompt)

    assert (type(error), error.metadata, error.elsewhere) == (UnsupportedByModel, {"limit": "context"}, True)


async def test_llmock_finds_no_fault_with_how_failures_are_taken(openai, llmock, prompt):
    llmock.rate_limit(retry_after=1).fail(500).context_overflow()
    for question in ("first", "second", "third"):
        await failure(openai, replace(prompt, user=question))

    llmock.assert_resilient()


async def test_many_calls_at_once_are_all_answered(openai, llmock, prompt):
    llmock.reply("a cat", times=None)

    answers = await asyncio.gather(*(openai.complete(prompt, (PICTURE,), timeout_s=60) for _ in range(24)))

    assert [answer.text for answer in answers] == ["a cat"] * 24


async def test_a_call_that_runs_out_of_time_is_billed_by_estimate(openai, llmock, prompt):
    llmock.delay(5)

    error = await failure(openai, replace(prompt, service_tier=ServiceTier.FLEX), timeout_s=0.3)

    assert (type(error), error.usage, error.service_tier) == (DeadlineExceeded, UNTOLD, "flex")


async def test_a_call_without_time_left_is_the_deadline_too(openai, prompt):
    assert type(await failure(openai, prompt, timeout_s=0)) is DeadlineExceeded


async def test_reasoning_is_asked_for_and_sampling_then_left_out(openai, llmock, prompt):
    await openai.complete(replace(prompt, reasoning=Reasoning.LOW, temperature=0.5), (PICTURE,), timeout_s=10)

    assert llmock.last_request.body["reasoning"] == {"effort": "low"}
    assert "temperature" not in llmock.last_request.body


# Readiness.


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


# What only a bare socket can show.


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


# Options.


@pytest.mark.parametrize(
    "raw",
    [
        {"model": ""},
        {"base_url": "not a url"},
        {"base_url": "ftp://host/v1"},
        {"connect_timeout_s": 0},
        {"max_connections": 0},
        {"keepalive_expiry_s": -1},
        {"api_key": "sk-in-the-settings"},
    ],
)
def test_wrong_options_are_refused(raw):
    with pytest.raises(ValidationError):
        Options.model_validate(raw)


async def test_the_key_is_in_no_repr(llmock):
    settings = options(llmock.base_url())
    async with connect(settings) as backend:
        assert KEY not in f"{settings!r} {settings.api_key()!r} {backend!r}"
