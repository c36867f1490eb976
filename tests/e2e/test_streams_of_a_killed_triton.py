"""Streams from a real Triton that is killed in the midst of them; its model, a stand-in, writes and then stalls."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest
from grpc import StatusCode

from gateway.tritonserver import TritonUnavailable
from tests.failover.tritons import installed
from tests.fixtures.streams import on_triton, picture, read
from visiongateway.v1 import vision_service_pb2 as pb

WELL = {"kind": "fake", "profile": "gemma4", "price": "free", "answer": "A teal surface."}


@pytest.fixture
async def triton(tmp_path):
    try:
        with installed(tmp_path) as served:
            await served.start()
            yield served
    except TritonUnavailable as error:
        pytest.skip(str(error))


def asked(gateway, fault, timeout_s):
    request = pb.StreamVQARequest(image=picture(), question=f"fault: {fault}")
    return aiter(gateway.stub.StreamVQA(request, timeout=timeout_s))


async def test_a_triton_that_is_killed_after_the_first_word_ends_the_call_as_partial(start_gateway, triton):
    gateway = await start_gateway(models={"killed": on_triton(triton.address), "well": WELL})
    messages = asked(gateway, "stall", 60)
    first = await anext(messages)

    triton.kill()
    _, answer, failed = await read(messages)

    assert (first.delta[:1], answer, failed.code, failed.reason) == (
        "a",
        None,
        StatusCode.UNAVAILABLE,
        "BACKEND_UNAVAILABLE",
    )
    assert failed.info.metadata["partial"] == "true"


async def test_a_model_whose_process_dies_after_the_first_word_is_never_a_success(start_gateway, triton):
    gateway = await start_gateway(models={"killed": on_triton(triton.address), "well": WELL})
    messages = asked(gateway, "stall", 5)
    await anext(messages)

    for stub in triton.stubs():
        os.kill(stub, signal.SIGKILL)
    _, answer, failed = await read(messages)

    # Triton may never tell; then the time that the caller gave is up.
    assert answer is None
    assert failed.code in (StatusCode.UNAVAILABLE, StatusCode.DEADLINE_EXCEEDED)


async def test_a_triton_that_is_killed_before_the_first_word_leaves_the_call_to_the_next_model(start_gateway, triton):
    gateway = await start_gateway(models={"killed": on_triton(triton.address), "well": WELL})
    triton.hang(hangs=True)
    reading = asyncio.create_task(read(asked(gateway, "none", 60)))
    async with asyncio.timeout(30):
        while not triton.asked():  # noqa: ASYNC110  a file of another process
            await asyncio.sleep(0.02)

    triton.kill()
    deltas, answer, failed = await reading

    assert ("".join(deltas), answer.info.model, failed) == ("A teal surface.", "well", None)
