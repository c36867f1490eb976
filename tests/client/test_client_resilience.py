"""Both clients try again, spread their calls, and give up in time."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from tests.fixtures.scripted_gateway import Failure
from visiongateway import AsyncVisionClient, DeadlineExceeded, Unavailable, VisionClient
from visiongateway._channel import channel_target
from visiongateway.v1 import vision_service_pb2 as pb

BUSY = Failure(grpc.StatusCode.UNAVAILABLE)
ANSWER = pb.CaptionResponse(text="a cat")
NOBODY = "127.0.0.1:1"  # A port that nothing listens on.


@pytest.mark.parametrize("size", [300_000, 2_000_000, 16_000_000])
def test_a_call_of_any_size_is_tried_again_while_unavailable(scripted_gateway, size):
    scripted_gateway.script("Caption", BUSY, BUSY, ANSWER)

    with VisionClient(scripted_gateway.address) as client:
        assert client.caption(bytes(size)) == ANSWER

    assert [len(attempt.request.image.data) for attempt in scripted_gateway.attempts] == [size] * 3


@pytest.mark.parametrize("size", [300_000, 2_000_000, 16_000_000])
async def test_an_asyncio_call_of_any_size_is_tried_again_while_unavailable(scripted_gateway, size):
    scripted_gateway.script("Caption", BUSY, BUSY, ANSWER)

    async with AsyncVisionClient(scripted_gateway.address) as client:
        assert await client.caption(bytes(size)) == ANSWER

    assert [len(attempt.request.image.data) for attempt in scripted_gateway.attempts] == [size] * 3


def test_a_call_is_given_up_after_four_attempts(scripted_gateway):
    scripted_gateway.script("Caption", BUSY)

    with VisionClient(scripted_gateway.address) as client, pytest.raises(Unavailable):
        client.caption(b"image")

    assert len(scripted_gateway.attempts) == 4


def test_a_gateway_that_asks_not_to_be_tried_again_is_not(scripted_gateway):
    scripted_gateway.script(
        "Caption", Failure(grpc.StatusCode.UNAVAILABLE, trailers=[("grpc-retry-pushback-ms", "-1")])
    )

    with VisionClient(scripted_gateway.address) as client, pytest.raises(Unavailable):
        client.caption(b"image")

    assert len(scripted_gateway.attempts) == 1


@pytest.mark.parametrize(
    "code",
    [
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    ],
)
def test_nothing_but_unavailable_is_tried_again(scripted_gateway, code):
    scripted_gateway.script("Caption", Failure(code))

    with VisionClient(scripted_gateway.address) as client, pytest.raises(Exception, match="scripted"):
        client.caption(b"image")

    assert len(scripted_gateway.attempts) == 1


def test_attempts_stay_near_the_number_of_calls_while_everything_fails(scripted_gateway):
    scripted_gateway.script("Caption", BUSY)

    with VisionClient(scripted_gateway.address) as client:
        for _ in range(200):
            with pytest.raises(Unavailable):
                client.caption(b"image")

    assert 200 <= len(scripted_gateway.attempts) <= 220


def test_calls_are_spread_over_all_addresses(start_scripted_gateway):
    gateways = [start_scripted_gateway(), start_scripted_gateway()]

    with VisionClient([g.address for g in gateways]) as client:
        _call_until(client, lambda: all(g.attempts for g in gateways))

    assert [bool(g.attempts) for g in gateways] == [True, True]


def test_a_gateway_that_drains_and_stops_loses_no_call(start_scripted_gateway):
    leaving, staying = start_scripted_gateway(), start_scripted_gateway()
    stop = threading.Event()

    def work(client: VisionClient) -> int:
        calls = 0
        while not stop.is_set():
            client.caption(b"image")
            calls += 1
        return calls

    with VisionClient([leaving.address, staying.address]) as client, ThreadPoolExecutor(8) as workers:
        _call_until(client, lambda: leaving.attempts and staying.attempts)
        done = [workers.submit(work, client) for _ in range(8)]
        try:
            leaving.serving(yes=False)
            _call_until(client, lambda: _is_quiet(client, leaving))
            leaving.stop()
            _call_until(client, _after(100, staying))
        finally:
            stop.set()
        answered = sum(future.result() for future in done)

    assert answered > 0


async def test_an_asyncio_client_leaves_a_gateway_that_drains(start_scripted_gateway):
    leaving, staying = start_scripted_gateway(), start_scripted_gateway()

    async with AsyncVisionClient([leaving.address, staying.address]) as client:

        async def call_until(happened):
            for _ in range(200):
                before = len(leaving.attempts)
                await asyncio.gather(*(client.caption(b"image") for _ in range(20)))
                if happened(before):
                    return
            raise AssertionError("it never happened")

        await call_until(lambda _: leaving.attempts and staying.attempts)
        leaving.serving(yes=False)
        await call_until(lambda before: len(leaving.attempts) == before)
        leaving.stop()
        answers = await asyncio.gather(*(client.caption(b"image") for _ in range(100)))

    assert answers == [pb.CaptionResponse()] * 100


def test_a_gateway_that_serves_nothing_fails_calls_without_waiting_for_the_deadline(scripted_gateway):
    scripted_gateway.serving(yes=False)

    with VisionClient(scripted_gateway.address) as client, pytest.raises(Unavailable) as caught:
        client.caption(b"image", timeout=100)

    assert (caught.value.code, caught.value.reason) == (grpc.StatusCode.UNAVAILABLE, "")


def test_the_health_of_a_gateway_can_be_passed_over(scripted_gateway):
    scripted_gateway.serving(yes=False)

    with VisionClient(scripted_gateway.address, channel_options=[("grpc.inhibit_health_checking", 1)]) as client:
        assert client.caption(b"image") == pb.CaptionResponse()


def test_no_gateway_fails_calls_without_waiting_for_the_deadline():
    with VisionClient(NOBODY) as client, pytest.raises(Unavailable):
        client.caption(b"image", timeout=100)


async def test_no_gateway_fails_asyncio_calls_without_waiting_for_the_deadline():
    async with AsyncVisionClient(NOBODY) as client:
        with pytest.raises(Unavailable):
            await client.caption(b"image", timeout=100)


def _until_the_caller_is_gone(_request, context):
    gone = threading.Event()
    if context.add_callback(gone.set):
        gone.wait(20)
    return pb.CaptionResponse()


def test_the_deadline_ends_a_call(scripted_gateway):
    scripted_gateway.script("Caption", _until_the_caller_is_gone)

    with VisionClient(scripted_gateway.address) as client, pytest.raises(DeadlineExceeded) as caught:
        client.caption(b"image", timeout=0.3, request_id="slow-1")

    assert (caught.value.reason, caught.value.request_id) == ("", "slow-1")


async def test_the_deadline_ends_an_asyncio_call(scripted_gateway):
    scripted_gateway.script("Caption", _until_the_caller_is_gone)

    async with AsyncVisionClient(scripted_gateway.address, timeout=0.3) as client:
        with pytest.raises(DeadlineExceeded):
            await client.caption(b"image")


async def test_a_cancelled_asyncio_call_ends_at_the_gateway_too(scripted_gateway):
    started, ended = threading.Event(), threading.Event()

    def watch(request, context):
        started.set()
        response = _until_the_caller_is_gone(request, context)
        ended.set()
        return response

    scripted_gateway.script("Caption", watch)
    async with AsyncVisionClient(scripted_gateway.address) as client:
        call = asyncio.create_task(client.caption(b"image"))
        await asyncio.to_thread(started.wait, 20)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        seen = await asyncio.to_thread(ended.wait, 20)

    assert seen


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("", "at least one address"),
        ([], "at least one address"),
        (["127.0.0.1:1", ""], "at least one address"),
        (["127.0.0.1:1", "[::1]:1"], "all be IPv4 or all be IPv6"),
        (["gateway:1", "127.0.0.1:1"], "'gateway:1' is not 'IP:port'"),
    ],
)
def test_addresses_that_cannot_be_called_are_told_at_once(target, message):
    with pytest.raises(ValueError, match=message):
        VisionClient(target)


def test_several_ipv6_addresses_make_one_target():
    assert channel_target(["[::1]:1", "[::1]:2"]) == "ipv6:[::1]:1,[::1]:2"


def _call_until(client, happened):
    """Keeps calling, each call answered, until something has happened."""
    for _ in range(300):
        client.caption(b"image")
        if happened():
            return
    raise AssertionError("it never happened")


def _is_quiet(client, gateway):
    before = len(gateway.attempts)
    for _ in range(40):
        client.caption(b"image")
    return len(gateway.attempts) == before


def _after(count, gateway):
    start = len(gateway.attempts)
    return lambda: len(gateway.attempts) >= start + count
