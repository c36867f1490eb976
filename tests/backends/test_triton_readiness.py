from __future__ import annotations

import socket

import grpc
import pytest
from structlog.testing import capture_logs

from gateway.backends.triton import Options, connect
from gateway.errors import (
    BackendUnavailable,
)
from tests.fixtures.kserve import (
    ScriptedTriton,
    contract_config,
    fails,
    replies,
    start,
    whole,
)
from tests.fixtures.triton_calls import failure, hang, until

pytestmark = pytest.mark.usefixtures("unblocked_loop")
INTERNALS = "shm region triton_python_backend_shm_42"
Code = grpc.StatusCode


async def test_a_server_that_is_not_up_yet_is_used_once_it_is(clock, prompt, images, unused_address):
    async with connect(Options(address=unused_address, model="gemma4"), clock=clock) as backend:
        assert not await backend.ready()
        assert type(await failure(backend, prompt, images)) is BackendUnavailable

        server = await start(ScriptedTriton(), unused_address)
        await until(backend.ready)

        assert (await backend.complete(prompt, images, timeout_s=5)).text == "a cat"
        await server.stop(None)


async def test_a_model_that_is_not_loaded_is_not_ready(scripted_triton, kserve):
    kserve.model_ready = False

    assert not await scripted_triton.ready()


async def test_the_contract_is_read_once_while_the_server_stays(scripted_triton, kserve, prompt, images):
    assert await scripted_triton.ready()
    await scripted_triton.complete(prompt, images, timeout_s=5)
    await scripted_triton.complete(prompt, images, timeout_s=5)

    assert kserve.config_asked == 1


async def test_the_contract_is_read_again_after_the_server_was_gone(scripted_triton, kserve, prompt, images):
    await scripted_triton.complete(prompt, images, timeout_s=5)
    kserve.script = fails(Code.UNAVAILABLE, "going away")
    await failure(scripted_triton, prompt, images)
    kserve.config.max_batch_size = 8

    assert not await scripted_triton.ready()


async def test_another_contract_makes_the_model_unready_and_fails_calls_before_they_are_sent(
    scripted_triton, kserve, prompt, images
):
    kserve.config.max_batch_size = 8

    with capture_logs() as logs:
        assert not await scripted_triton.ready()
        error = await failure(scripted_triton, prompt, images)

    assert (type(error), kserve.requests) == (BackendUnavailable, [])
    assert [(entry["event"], entry["differences"]) for entry in logs if entry["log_level"] == "error"] == [
        ("triton_contract_broken", ("max_batch_size is 8, not 0",))
    ]


async def test_a_mended_contract_is_noticed(scripted_triton, kserve, prompt, images):
    kserve.config.max_batch_size = 8
    assert not await scripted_triton.ready()

    kserve.config = contract_config()

    assert await scripted_triton.ready()
    assert (await scripted_triton.complete(prompt, images, timeout_s=5)).text == "a cat"


async def test_a_dead_model_process_is_not_ready_though_triton_says_so(scripted_triton, kserve, prompt, images):
    kserve.script = fails(Code.INTERNAL, "Stub process 'gemma4_0_0' is not healthy.")
    await failure(scripted_triton, prompt, images)

    assert not await scripted_triton.ready()


async def test_of_the_callers_of_a_dead_model_process_one_in_two_seconds_asks_and_none_waits(
    scripted_triton, kserve, prompt, images, clock
):
    kserve.script = fails(Code.INTERNAL, "Stub process 'gemma4_0_0' is not healthy.")
    failures = [await failure(scripted_triton, prompt, images) for _ in range(3)]
    clock.now += 2.1
    failures += [await failure(scripted_triton, prompt, images) for _ in range(3)]

    assert [type(each) for each in failures] == [BackendUnavailable] * 6
    assert len(kserve.requests) == 2


async def test_a_dead_model_process_that_is_back_is_asked_by_the_next_call_that_may(
    scripted_triton, kserve, prompt, images, clock
):
    kserve.script = fails(Code.INTERNAL, "Stub process 'gemma4_0_0' is not healthy.")
    await failure(scripted_triton, prompt, images)
    kserve.script = replies(whole("a cat"))
    clock.now += 2.1

    assert (await scripted_triton.complete(prompt, images, timeout_s=5)).text == "a cat"
    assert (await scripted_triton.complete(prompt, images, timeout_s=5)).text == "a cat"


async def test_a_revived_model_process_is_found_by_asking_it(scripted_triton, kserve, prompt, images):
    kserve.script = fails(Code.INTERNAL, "Stub process 'gemma4_0_0' is not healthy.")
    await failure(scripted_triton, prompt, images)
    kserve.script = fails(Code.INVALID_ARGUMENT, "the required input 'image_bytes' is missing")

    assert await scripted_triton.ready()

    asked = len(kserve.requests)
    assert await scripted_triton.ready()
    assert len(kserve.requests) == asked


async def test_a_dead_model_process_that_hangs_the_probe_is_not_ready(kserve, clock, prompt, images):
    options = Options(address=kserve.address, model="gemma4", ready_timeout_s=0.2)
    async with connect(options, clock=clock) as backend:
        kserve.script = fails(Code.INTERNAL, "Stub process 'gemma4_0_0' is not healthy.")
        await failure(backend, prompt, images)
        kserve.script = hang

        assert not await backend.ready()
        assert not await backend.ready()


async def test_a_server_that_accepts_but_never_answers_is_not_ready_and_not_the_callers_deadline(clock, prompt, images):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        options = Options(address=f"127.0.0.1:{silent.getsockname()[1]}", model="gemma4", ready_timeout_s=0.2)

        async with connect(options, clock=clock) as backend:
            assert not await backend.ready()
            assert type(await failure(backend, prompt, images)) is BackendUnavailable
