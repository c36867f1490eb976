from __future__ import annotations

import asyncio

import grpc
import pytest
from grpc import StatusCode

from tests.fixtures.served_gateway import MAX_MESSAGE_BYTES, caption, failure_of
from visiongateway.v1 import image_pb2

CAPTION = "/visiongateway.v1.VisionService/Caption"
# Seconds a test waits at most for what takes much less.
LONG = 20


def _varint(number):
    out = b""
    while number >= 0x80:
        out += bytes([number & 0x7F | 0x80])
        number >>= 7
    return out + bytes([number])


async def _nothing():
    return
    yield


async def _never():
    await asyncio.Event().wait()
    yield


def _headers_only(served, **how):
    """Opens a call whose body never comes."""
    return served.channel.stream_unary(CAPTION)(_never(), **how)


async def test_bytes_that_are_no_message_are_malformed(served):
    failure = await failure_of(served.channel.unary_unary(CAPTION)(b"\xff" * 40, timeout=5))
    assert (failure.code, failure.reason) == (StatusCode.INVALID_ARGUMENT, "MALFORMED_REQUEST")
    assert failure.message == "the message is not a visiongateway.v1.CaptionRequest"
    assert served.calls("Caption", "INVALID_ARGUMENT") == 1


async def test_a_schema_nested_too_deep_is_malformed(served):
    # One Struct in the other, 600 deep: protobuf's parser bounds the depth.
    inner = b""
    for _ in range(600):
        inner = b"\x0a" + _varint(len(inner)) + inner
    failure = await failure_of(
        served.channel.unary_unary("/visiongateway.v1.VisionService/VQA")(b"\x2a" + _varint(len(inner)) + inner)
    )
    assert failure.reason == "MALFORMED_REQUEST"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"\x22\x00" * 4097, "the message has more than 4096 fields"),
        (b"\x2a" + _varint(1 << 20) + bytes(1 << 20), "the message has more than 1 MiB besides its images"),
    ],
    ids=["images without end", "a huge schema"],
)
async def test_a_message_made_to_exhaust_memory_is_refused_unparsed(serve, body, message):
    served = await serve(max_message_bytes=2 << 20)
    failure = await failure_of(served.channel.unary_unary("/visiongateway.v1.VisionService/VQA")(body, timeout=LONG))
    assert (failure.code, failure.reason, failure.message) == (
        StatusCode.INVALID_ARGUMENT,
        "MALFORMED_REQUEST",
        message,
    )


@pytest.mark.parametrize("cut", [1, 2, 5, 20])
async def test_a_message_that_is_cut_off_is_malformed(served, cut):
    body = caption(language="de").SerializeToString()[:-cut]
    failure = await failure_of(served.channel.unary_unary(CAPTION)(body, timeout=5))
    assert failure.reason == "MALFORMED_REQUEST"


async def test_fields_of_a_newer_contract_are_ignored(served):
    newer = b"\xf8\x3f\x01" + b"\xf9\x3f" + bytes(8) + b"\xfd\x3f" + bytes(4) + b"\xfa\x3f\x01x"
    await served.channel.unary_unary(CAPTION)(caption().SerializeToString() + newer, timeout=5)


async def test_a_call_that_ends_without_a_message_is_malformed(served):
    failure = await failure_of(served.channel.stream_unary(CAPTION)(_nothing(), timeout=5))
    assert (failure.code, failure.reason) == (StatusCode.INVALID_ARGUMENT, "MALFORMED_REQUEST")


async def test_an_empty_message_is_a_message_without_an_image(served):
    failure = await failure_of(served.channel.unary_unary(CAPTION)(b"", timeout=5))
    assert failure.reason == "INVALID_IMAGE"


async def test_a_message_over_the_limit_is_refused_and_counted(served):
    request = caption(image=image_pb2.Image(data=bytes(MAX_MESSAGE_BYTES)))
    failure = await failure_of(served.stub.Caption(request, timeout=LONG))
    await served.admission.empty()
    assert failure.code is StatusCode.RESOURCE_EXHAUSTED
    assert served.calls("Caption", "RESOURCE_EXHAUSTED") == 1
    assert [line["reason"] for line in served.lines()] == ["MESSAGE_TOO_LARGE"]


async def test_a_message_just_under_the_limit_is_taken(served):
    request = caption(image=image_pb2.Image(data=bytes(MAX_MESSAGE_BYTES - 16)))
    await served.stub.Caption(request, timeout=LONG)
    assert served.lines()[0]["request_bytes"] == request.ByteSize()


async def test_a_caller_that_cancels_before_its_body_is_in_is_counted_as_cancelled(served):
    call = _headers_only(served, timeout=LONG)
    await served.in_flight(1)
    # As long as a message that is too large is not told apart from it.
    await asyncio.sleep(0.15)
    call.cancel()
    await served.admission.empty()
    assert served.calls("Caption", "CANCELLED") == 1


async def test_a_body_that_does_not_come_ends_the_call_and_frees_its_place(serve):
    served = await serve(body_timeout_s=0.2, max_inflight=1)
    failure = await failure_of(_headers_only(served))
    assert (failure.code, failure.reason) == (StatusCode.DEADLINE_EXCEEDED, "DEADLINE")
    assert failure.message == "the body of this call did not arrive within 0.2 s"
    await served.stub.Caption(caption(), timeout=5)
    assert served.calls("Caption", "DEADLINE_EXCEEDED") == 1


async def test_calls_without_bodies_do_not_lock_others_out(serve):
    served = await serve(body_timeout_s=600, max_inflight=100)
    async with grpc.aio.insecure_channel(served.address) as attacker:
        silent = [attacker.stream_unary(CAPTION)(_never()) for _ in range(150)]
        await served.in_flight(100)
        codes = []
        async with asyncio.timeout(LONG):
            while codes.count(StatusCode.OK) < 50:
                codes.append(await _code(served.stub.Caption(caption())))
                await asyncio.sleep(0.02)
        for call in silent:
            call.cancel()
    assert set(codes) <= {StatusCode.OK, StatusCode.UNAVAILABLE}
    # Once the silent ones have had their time, nobody is refused for them.
    assert set(codes[-50:]) == {StatusCode.OK}


async def test_the_call_that_makes_room_is_told_so(serve):
    served = await serve(max_inflight=1, patience_s=0)
    silent = asyncio.ensure_future(failure_of(_headers_only(served)))
    await served.in_flight(1)
    await served.stub.Caption(caption(), timeout=LONG)
    failure = await silent
    assert (failure.code, failure.reason) == (StatusCode.UNAVAILABLE, "OVERLOADED")


async def test_a_call_without_its_body_keeps_its_place_for_a_while(serve):
    served = await serve(max_inflight=1, patience_s=LONG)
    silent = _headers_only(served)
    await served.in_flight(1)
    assert (await failure_of(served.stub.Caption(caption()))).reason == "OVERLOADED"
    silent.cancel()


async def test_a_call_that_is_worked_on_never_makes_room(serve):
    served = await serve(max_inflight=1, patience_s=0)
    worked_on, release = _held(served)
    await served.in_flight(1)
    assert (await failure_of(served.stub.Caption(caption()))).reason == "OVERLOADED"
    release.set()
    await worked_on


async def test_over_the_limit_a_call_is_refused_before_its_body_is_read(serve):
    served = await serve(max_inflight=1)
    held, release = _held(served)
    await served.in_flight(1)
    failure = await failure_of(_headers_only(served))
    assert (failure.code, failure.reason) == (StatusCode.UNAVAILABLE, "OVERLOADED")
    assert failure.message == "all 1 places are taken"
    assert 250 <= int(failure.trailers["grpc-retry-pushback-ms"]) <= 750
    assert failure.retry_after_s == int(failure.trailers["grpc-retry-pushback-ms"]) / 1000
    assert served.count("vision_gateway_shed_total", reason="OVERLOADED") == 1
    release.set()
    await held
    await served.stub.Caption(caption(), timeout=5)


async def test_the_gateway_ends_a_call_whose_time_is_up_by_its_own_clock(serve):
    served = await serve(default_deadline_s=0.2)

    async def never(*_):
        await asyncio.Event().wait()

    served.pipeline.answer = never
    failure = await failure_of(served.stub.Caption(caption()))
    assert (failure.code, failure.reason) == (StatusCode.DEADLINE_EXCEEDED, "DEADLINE")
    assert failure.message == "the time of this call, 0.2 s, is up"
    assert served.pipeline.cancelled == 1


async def test_a_timeout_inside_the_pipeline_is_not_taken_for_the_callers(served):
    async def late(*_):
        raise TimeoutError

    served.pipeline.answer = late
    assert (await failure_of(served.stub.Caption(caption(), timeout=5))).reason == "INTERNAL"


async def test_in_a_burst_every_call_is_answered_or_refused_and_counted(served):
    stub = served.stub
    codes = await asyncio.gather(*(_code(stub.Caption(caption())) for _ in range(2000)))
    assert set(codes) <= {StatusCode.OK, StatusCode.UNAVAILABLE}
    for code in (StatusCode.OK, StatusCode.UNAVAILABLE):
        assert served.calls("Caption", code.name) == codes.count(code)


def _held(served):
    """Starts a call that is worked on until told otherwise."""
    release = asyncio.Event()

    async def hold(task, *_):
        await release.wait()
        return task.response()

    served.pipeline.answer = hold
    return asyncio.ensure_future(_answer(served.stub.Caption(caption()))), release


async def _answer(call):
    return await call


async def _code(call):
    return await call.code()
