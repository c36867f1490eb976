from __future__ import annotations

import asyncio
import itertools
import socket

import grpc
import pytest
from pydantic import ValidationError
from structlog.testing import capture_logs
from tritonclient.grpc import service_pb2

from gateway.backends.triton import Options, connect
from gateway.domain import Completion
from gateway.errors import (
    BackendUnavailable,
    DeadlineExceeded,
    InvalidImage,
    Overloaded,
    TruncatedAnswer,
    UnsupportedByModel,
    UnusableAnswer,
    UpstreamAuth,
)
from gateway.usage import Usage
from tests.fixtures.kserve import (
    ScriptedTriton,
    contract_config,
    empty_final,
    fails,
    part,
    replies,
    start,
    strings,
    whole,
)

pytestmark = pytest.mark.usefixtures("unblocked_loop")
INTERNALS = "shm region triton_python_backend_shm_42"
Code = grpc.StatusCode


@pytest.fixture
async def triton(kserve, clock):
    async with connect(Options(address=kserve.address, model="gemma4"), clock=clock) as backend:
        yield backend


async def failure(backend, prompt, images):
    with pytest.raises(Exception) as caught:  # noqa: PT011  the caller compares its type
        await backend.complete(prompt, images, timeout_s=5)
    return caught.value


def in_stream(text):
    return replies(service_pb2.ModelStreamInferResponse(error_message=text))


async def until(holds):
    while not await holds():  # noqa: ASYNC110  gRPC reconnects when it will, and tells nobody
        await asyncio.sleep(0.02)


async def hang(_request, _context):
    await asyncio.Event().wait()
    yield whole()


async def test_a_whole_answer_comes_back_with_its_usage(triton, prompt, images):
    assert await triton.complete(prompt, images, timeout_s=5) == Completion(
        "a cat", Usage(input_text=32, input_image=268, output=12), provider_model="served/3"
    )


async def test_the_model_hears_the_gateways_request_id_and_deadline(triton, kserve, prompt, images):
    await triton.complete(prompt, images, timeout_s=5)

    assert kserve.requests[0].id == "req-1"
    assert kserve.metadata[0]["triton_grpc_error"] == "true"
    assert kserve.requests[0].parameters["timeout"].int64_param == 5_000_000
    assert 0 < kserve.times_left_s[0] < 6


async def test_deltas_are_put_together(triton, kserve, prompt, images):
    kserve.script = replies(
        part("a c", tokens=(300, 1)),
        part("ät", tokens=(300, 2)),
        part("", finish_reason="stop", tokens=(300, 3), final=True),
    )

    answer = await triton.complete(prompt, images, timeout_s=5)

    assert (answer.text, answer.usage.output) == ("a cät", 3)


async def test_an_empty_final_response_ends_an_answer(triton, kserve, prompt, images):
    kserve.script = replies(part("a cat", finish_reason="stop", tokens=(300, 3)), empty_final())

    answer = await triton.complete(prompt, images, timeout_s=5)

    assert (answer.text, answer.usage.input_total, answer.usage.output) == ("a cat", 300, 3)


async def test_a_finished_answer_needs_no_final_flag(triton, kserve, prompt, images):
    kserve.script = replies(part("a cat", finish_reason="stop", tokens=(300, 3)))

    assert (await triton.complete(prompt, images, timeout_s=5)).text == "a cat"


async def test_time_to_first_token_is_when_the_first_of_several_parts_came(kserve, prompt, images):
    kserve.script = replies(part(""), part("a "), part("cat", finish_reason="stop", final=True))
    ticks = itertools.count(step=0.25)  # Read at the start, before sending, and once a part.

    async with connect(Options(address=kserve.address, model="gemma4"), clock=lambda: next(ticks)) as backend:
        answer = await backend.complete(prompt, images, timeout_s=5)

    assert answer.time_to_first_token_s == 0.75


async def test_time_to_first_token_of_an_answer_in_one_part_is_what_the_model_tells(triton, kserve, prompt, images):
    kserve.script = replies(whole(ttft_us=125_000))

    assert (await triton.complete(prompt, images, timeout_s=5)).time_to_first_token_s == 0.125


async def test_an_answer_in_one_part_says_nothing_about_its_first_token(triton, prompt, images):
    assert (await triton.complete(prompt, images, timeout_s=5)).time_to_first_token_s is None


async def test_a_model_that_counts_no_tokens_gives_an_estimate(triton, kserve, prompt, images):
    reply = service_pb2.ModelInferResponse()
    for name, text in (("text_output", b"a cat"), ("finish_reason", b"stop")):
        reply.outputs.add(name=name, datatype="BYTES", shape=(1,))
        reply.raw_output_contents.append(strings(text))
    kserve.script = replies(service_pb2.ModelStreamInferResponse(infer_response=reply))

    answer = await triton.complete(prompt, images, timeout_s=5)

    assert (answer.usage, answer.estimated) == (Usage(input_image=268), True)


async def test_a_stream_that_ends_without_a_finish_reason_was_cut_off(triton, kserve, prompt, images):
    kserve.script = replies(part("a c", tokens=(300, 2)), empty_final())

    error = await failure(triton, prompt, images)

    assert (type(error), error.elsewhere) == (TruncatedAnswer, True)
    assert error.usage == Usage(input_text=32, input_image=268, output=2)


async def test_an_answer_at_the_token_limit_is_cut_off_everywhere(triton, kserve, prompt, images):
    kserve.script = replies(part("a c", finish_reason="length", tokens=(300, 256), final=True))

    error = await failure(triton, prompt, images)

    assert (type(error), error.elsewhere) == (TruncatedAnswer, False)
    assert error.usage == Usage(input_text=32, input_image=268, output=256)


async def test_an_answer_that_is_not_utf8_is_unusable_but_billed(triton, kserve, prompt, images):
    broken = whole(tokens=(300, 12))
    broken.infer_response.raw_output_contents[0] = strings(b"\xff\xfe")
    kserve.script = replies(broken)

    error = await failure(triton, prompt, images)

    assert (type(error), error.usage.output) == (UnusableAnswer, 12)


async def test_a_whole_answer_survives_a_bad_end_of_its_stream(triton, kserve, prompt, images):
    kserve.script = fails(Code.INTERNAL, INTERNALS, whole())

    assert (await triton.complete(prompt, images, timeout_s=5)).text == "a cat"


@pytest.mark.parametrize(
    ("code", "text", "expected"),
    [
        (Code.UNAVAILABLE, "over max_inflight", BackendUnavailable),
        (Code.INTERNAL, "Stub process 'gemma4_0_0' is not healthy.", BackendUnavailable),
        (Code.INTERNAL, "CUDA out of memory", BackendUnavailable),
        (Code.UNKNOWN, "?", BackendUnavailable),
        (Code.CANCELLED, "cancelled by the server", BackendUnavailable),
        (Code.NOT_FOUND, "unknown model", BackendUnavailable),
        (
            Code.UNIMPLEMENTED,
            "ModelInfer RPC doesn't support models with decoupled transaction policy",
            BackendUnavailable,
        ),
        (Code.RESOURCE_EXHAUSTED, "too many", Overloaded),
        (Code.DEADLINE_EXCEEDED, "queue timeout", DeadlineExceeded),
        (Code.INVALID_ARGUMENT, "image 0 cannot be decoded", InvalidImage),
        (Code.INVALID_ARGUMENT, "unexpected shape for input 'image_bytes' for model 'gemma4'", BackendUnavailable),
        (Code.INVALID_ARGUMENT, "guided_json is no schema", UnsupportedByModel),
        (Code.UNAUTHENTICATED, "no certificate", UpstreamAuth),
        (Code.PERMISSION_DENIED, "restricted", UpstreamAuth),
        (None, "Request for unknown model: 'gemma4' is not found", BackendUnavailable),
        (None, "unexpected inference input 'extra' for model 'gemma4'", BackendUnavailable),
        (None, "Stub process 'gemma4_0_0' is not healthy.", BackendUnavailable),
    ],
)
async def test_each_failure_of_triton_has_its_error(triton, kserve, prompt, images, code, text, expected):
    kserve.script = fails(code, f"{text} {INTERNALS}") if code else in_stream(f"{text} {INTERNALS}")

    error = await failure(triton, prompt, images)

    assert type(error) is expected
    assert INTERNALS not in str(error)


async def test_a_bad_image_names_its_limit(triton, kserve, prompt, images):
    kserve.script = fails(Code.INVALID_ARGUMENT, "image 0 cannot be decoded")

    assert (await failure(triton, prompt, images)).limit == "decode"


async def test_tokens_spent_before_a_failure_are_told(triton, kserve, prompt, images):
    kserve.script = fails(Code.INTERNAL, "lost", part("a", tokens=(300, 7)))

    assert (await failure(triton, prompt, images)).usage == Usage(input_text=32, input_image=268, output=7)


async def test_tritons_own_text_goes_no_further_than_the_debug_log(triton, kserve, prompt, images):
    kserve.script = fails(Code.INTERNAL, INTERNALS)

    with capture_logs() as logs:
        await failure(triton, prompt, images)

    assert [entry["log_level"] for entry in logs if INTERNALS in str(entry)] == ["debug"]


async def test_an_answer_larger_than_the_limit_is_none_for_this_model(kserve, clock, prompt, images):
    kserve.script = replies(whole("x" * (2 << 20)))
    options = Options(address=kserve.address, model="gemma4", max_message_mib=1)

    async with connect(options, clock=clock) as backend:
        assert type(await failure(backend, prompt, images)) is UnsupportedByModel


async def test_a_model_that_does_not_answer_in_time_costs_the_deadline(triton, kserve, prompt, images):
    await triton.complete(prompt, images, timeout_s=5)
    kserve.script = hang

    with pytest.raises(DeadlineExceeded):
        await triton.complete(prompt, images, timeout_s=0.1)


async def test_a_call_without_time_left_is_the_deadline_too(triton, prompt, images):
    with pytest.raises(DeadlineExceeded):
        await triton.complete(prompt, images, timeout_s=0)


async def test_cancelling_a_call_cancels_its_stream(triton, kserve, prompt, images):
    kserve.script = hang
    call = asyncio.create_task(triton.complete(prompt, images, timeout_s=60))
    await kserve.arrived.wait()

    call.cancel()

    with pytest.raises(asyncio.CancelledError):
        await call
    await asyncio.wait_for(kserve.cancelled.wait(), 5)


async def test_one_connection_serves_many_calls_at_once(triton, kserve, prompt, images):
    waiting = asyncio.Barrier(32)

    async def together(request, _context):
        await waiting.wait()
        yield whole(request.id)

    kserve.script = together

    answers = await asyncio.gather(*(triton.complete(prompt, images, timeout_s=30) for _ in range(32)))

    assert [answer.text for answer in answers] == ["req-1"] * 32


async def test_a_server_that_is_not_up_yet_is_used_once_it_is(clock, prompt, images, unused_address):
    async with connect(Options(address=unused_address, model="gemma4"), clock=clock) as backend:
        assert not await backend.ready()
        assert type(await failure(backend, prompt, images)) is BackendUnavailable

        server = await start(ScriptedTriton(), unused_address)
        await until(backend.ready)

        assert (await backend.complete(prompt, images, timeout_s=5)).text == "a cat"
        await server.stop(None)


async def test_a_model_that_is_not_loaded_is_not_ready(triton, kserve):
    kserve.model_ready = False

    assert not await triton.ready()


async def test_the_contract_is_read_once_while_the_server_stays(triton, kserve, prompt, images):
    assert await triton.ready()
    await triton.complete(prompt, images, timeout_s=5)
    await triton.complete(prompt, images, timeout_s=5)

    assert kserve.config_asked == 1


async def test_the_contract_is_read_again_after_the_server_was_gone(triton, kserve, prompt, images):
    await triton.complete(prompt, images, timeout_s=5)
    kserve.script = fails(Code.UNAVAILABLE, "going away")
    await failure(triton, prompt, images)
    kserve.config.max_batch_size = 8

    assert not await triton.ready()


async def test_another_contract_makes_the_model_unready_and_fails_calls_before_they_are_sent(
    triton, kserve, prompt, images
):
    kserve.config.max_batch_size = 8

    with capture_logs() as logs:
        assert not await triton.ready()
        error = await failure(triton, prompt, images)

    assert (type(error), kserve.requests) == (BackendUnavailable, [])
    assert [(entry["event"], entry["differences"]) for entry in logs if entry["log_level"] == "error"] == [
        ("triton_contract_broken", ("max_batch_size is 8, not 0",))
    ]


async def test_a_mended_contract_is_noticed(triton, kserve, prompt, images):
    kserve.config.max_batch_size = 8
    assert not await triton.ready()

    kserve.config = contract_config()

    assert await triton.ready()
    assert (await triton.complete(prompt, images, timeout_s=5)).text == "a cat"


async def test_a_dead_model_process_is_not_ready_though_triton_says_so(triton, kserve, prompt, images):
    kserve.script = fails(Code.INTERNAL, "Stub process 'gemma4_0_0' is not healthy.")
    await failure(triton, prompt, images)

    assert not await triton.ready()


async def test_a_revived_model_process_is_found_by_asking_it(triton, kserve, prompt, images):
    kserve.script = fails(Code.INTERNAL, "Stub process 'gemma4_0_0' is not healthy.")
    await failure(triton, prompt, images)
    kserve.script = fails(Code.INVALID_ARGUMENT, "the required input 'image_bytes' is missing")

    assert await triton.ready()

    asked = len(kserve.requests)
    assert await triton.ready()
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


@pytest.mark.parametrize(
    "raw",
    [
        {"model": ""},
        {"model": "m", "address": ""},
        {"model": "m", "keepalive_s": 1},
        {"model": "m", "max_message_mib": 0},
        {"model": "m", "ready_timeout_s": 0},
        {"model": "m", "adress": "typo"},
        {"model": "m", "tls": {"certificate": "typo"}},
        {"model": "m", "tls": {"cert": "cert.pem"}},
    ],
)
def test_wrong_options_are_refused(raw):
    with pytest.raises(ValidationError):
        Options.model_validate(raw)
