from __future__ import annotations

import grpc
import pytest
from structlog.testing import capture_logs

from gateway.backends.triton import Options, connect
from gateway.errors import (
    BackendUnavailable,
    DeadlineExceeded,
    InvalidImage,
    Overloaded,
    UnsupportedByModel,
    UpstreamAuth,
)
from gateway.usage import Usage
from tests.fixtures.kserve import (
    fails,
    part,
    replies,
    whole,
)
from tests.fixtures.triton_calls import failure, hang, in_stream

pytestmark = pytest.mark.usefixtures("unblocked_loop")
INTERNALS = "shm region triton_python_backend_shm_42"
Code = grpc.StatusCode


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
async def test_each_failure_of_triton_has_its_error(scripted_triton, kserve, prompt, images, code, text, expected):
    kserve.script = fails(code, f"{text} {INTERNALS}") if code else in_stream(f"{text} {INTERNALS}")

    error = await failure(scripted_triton, prompt, images)

    assert type(error) is expected
    assert INTERNALS not in str(error)


async def test_a_bad_image_names_its_limit(scripted_triton, kserve, prompt, images):
    kserve.script = fails(Code.INVALID_ARGUMENT, "image 0 cannot be decoded")

    assert (await failure(scripted_triton, prompt, images)).limit == "decode"


async def test_tokens_spent_before_a_failure_are_told(scripted_triton, kserve, prompt, images):
    kserve.script = fails(Code.INTERNAL, "lost", part("a", tokens=(300, 7)))

    assert (await failure(scripted_triton, prompt, images)).usage == Usage(input_text=32, input_image=268, output=7)


async def test_tritons_own_text_goes_no_further_than_here(scripted_triton, kserve, prompt, images):
    kserve.script = fails(Code.INTERNAL, INTERNALS)

    with capture_logs() as logs:
        await failure(scripted_triton, prompt, images)

    said = [entry for entry in logs if entry["event"] == "triton_said"]
    assert [(entry["log_level"], entry["length"]) for entry in said] == [("debug", len(INTERNALS))]
    assert INTERNALS not in str(logs)


async def test_an_answer_larger_than_the_limit_is_none_for_this_model(kserve, clock, prompt, images):
    kserve.script = replies(whole("x" * (2 << 20)))
    options = Options(address=kserve.address, model="gemma4", max_message_mib=1)

    async with connect(options, clock=clock) as backend:
        assert type(await failure(backend, prompt, images)) is UnsupportedByModel


async def test_a_model_that_does_not_answer_in_time_costs_the_deadline(scripted_triton, kserve, prompt, images):
    await scripted_triton.complete(prompt, images, timeout_s=5)
    kserve.script = hang

    with pytest.raises(DeadlineExceeded):
        await scripted_triton.complete(prompt, images, timeout_s=0.1)


async def test_a_call_without_time_left_is_the_deadline_too(scripted_triton, prompt, images):
    with pytest.raises(DeadlineExceeded):
        await scripted_triton.complete(prompt, images, timeout_s=0)
