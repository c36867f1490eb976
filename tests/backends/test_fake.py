from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from pydantic import ValidationError

from gateway import errors
from gateway.backends.fake import Call, Options, connect
from gateway.domain import Completion, ServiceTier
from gateway.usage import Usage


async def at_once(_):
    pass


async def test_each_rpc_gets_its_answer_and_the_others_the_common_one(prompt, images):
    async with connect(Options(answers={"Caption": "a cat"}, answer="else")) as fake:
        caption = await fake.complete(prompt, images, timeout_s=1)
        detection = await fake.complete(replace(prompt, rpc="Detect"), images, timeout_s=1)

    assert (caption.text, detection.text) == ("a cat", "else")


async def test_an_answer_counts_the_images_tokens_and_is_of_the_tier_asked_for(prompt, images):
    options = Options(input_text_tokens=7, output_tokens=3, model="m-1", time_to_first_token_s=0.5)
    async with connect(options) as fake:
        answer = await fake.complete(replace(prompt, service_tier=ServiceTier.FLEX), images, timeout_s=1)

    assert answer == Completion(
        "A scripted answer.", Usage(7, 268, 0, 3), "m-1", ServiceTier.FLEX, time_to_first_token_s=0.5
    )


async def outcomes(fake, prompt, count):
    seen = []
    for _ in range(count):
        try:
            await fake.complete(prompt, (), timeout_s=1)
            seen.append("OK")
        except errors.GatewayError as error:
            seen.append(error.reason)
    return seen


async def test_calls_go_as_scripted_and_then_well(prompt):
    async with connect(Options(outcomes=("REFUSED", "OK", "BACKEND_UNAVAILABLE"))) as fake:
        assert await outcomes(fake, prompt, 5) == ["REFUSED", "OK", "BACKEND_UNAVAILABLE", "OK", "OK"]


async def test_a_script_can_start_again(prompt):
    async with connect(Options(outcomes=("REFUSED", "OK"), repeat=True)) as fake:
        assert await outcomes(fake, prompt, 4) == ["REFUSED", "OK", "REFUSED", "OK"]


@pytest.mark.parametrize(
    ("reason", "billed"),
    [
        ("DEADLINE", False),
        ("BACKEND_UNAVAILABLE", False),
        ("OVERLOADED", False),
        ("UPSTREAM_RATE_LIMITED", False),
        ("UPSTREAM_AUTH", False),
        ("UPSTREAM_ACCOUNT", False),
        ("INVALID_IMAGE", False),
        ("UNSUPPORTED_BY_MODEL", False),
        ("REFUSED", True),
        ("UNUSABLE_ANSWER", True),
        ("TRUNCATED_ANSWER", True),
    ],
)
async def test_every_failure_of_a_backend_can_be_scripted(prompt, images, reason, billed):
    async with connect(Options(outcomes=(reason,))) as fake:
        with pytest.raises(errors.GatewayError) as caught:
            await fake.complete(prompt, images, timeout_s=1)

    assert (caught.value.reason, caught.value.usage is not None) == (reason, billed)


def test_an_unknown_outcome_names_those_there_are():
    with pytest.raises(ValidationError, match=r"no outcome 'REFUSE'; there are OK, DEADLINE, BACKEND_UNAVAILABLE"):
        Options(outcomes=("REFUSE",))


async def test_an_answer_takes_its_delay(prompt):
    slept = []

    async def sleep(seconds):
        slept.append(seconds)

    async with connect(Options(delay_s=2), sleep=sleep) as fake:
        await fake.complete(prompt, (), timeout_s=3)

    assert slept == [2]


async def test_a_delay_longer_than_the_time_left_is_the_deadline(prompt):
    async with connect(Options(delay_s=2), sleep=at_once) as fake:
        with pytest.raises(errors.DeadlineExceeded):
            await fake.complete(prompt, (), timeout_s=1)


async def test_the_last_calls_are_remembered(prompt, images):
    async with connect(Options(remember=1)) as fake:
        await fake.complete(prompt, (), timeout_s=1)
        await fake.complete(prompt, images, timeout_s=2)

    assert list(fake.calls) == [Call(prompt, images, 2)]


async def test_a_call_given_up_is_counted(prompt):
    started = asyncio.Event()

    async def sleep(_):
        started.set()
        await asyncio.Event().wait()

    async with connect(Options(), sleep=sleep) as fake:
        call = asyncio.create_task(fake.complete(prompt, (), timeout_s=1))
        await started.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    assert fake.cancelled == 1


@pytest.mark.parametrize("ready", [True, False])
async def test_readiness_is_scripted(ready):
    async with connect(Options(ready=ready)) as fake:
        assert await fake.ready() is ready
