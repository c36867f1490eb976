"""What a provider says is left of its limits, in the metrics of a whole gateway; llmock is in OpenAI's place."""

from __future__ import annotations

import pytest

from tests.fixtures.settings_file import caption, script
from visiongateway.v1 import call_pb2

HIT = call_pb2.CACHE_OUTCOME_HIT

REMAINING = 'vision_gateway_upstream_ratelimit_remaining{kind="requests",model="gpt"}'
LIMIT = 'vision_gateway_upstream_ratelimit_limit{kind="requests",model="gpt"}'


@pytest.fixture
def gpt(llmock):
    """A model at a provider that takes five requests a minute."""
    llmock.limits(rpm=5)
    return {"kind": "openai", "base_url": llmock.base_url(), "price": {"input": "5", "output": "30"}}


async def shown(running):
    """Every sample that tells of a provider's limits."""
    return {name: value for name, value in (await running.metrics()).items() if "_upstream_ratelimit_" in name}


async def test_nothing_is_shown_until_a_provider_tells_it(serve_file, gpt):
    running = await serve_file(models={"gpt": gpt, "scripted": script()})
    await running.stub.Caption(caption(model="scripted"), timeout=10)
    before = await shown(running)

    await running.stub.Caption(caption(model="gpt"), timeout=10)

    assert (before, await shown(running)) == ({}, {REMAINING: "4.0", LIMIT: "5.0"})


async def test_an_answer_from_the_cache_tells_nothing(serve_file, gpt, llmock):
    running = await serve_file(models={"gpt": gpt}, cache={"store": "memory"})
    await running.stub.Caption(caption(), timeout=10)
    llmock.limits(rpm=50)

    answer = await running.stub.Caption(caption(), timeout=10)

    assert (answer.info.cache, await shown(running)) == (HIT, {REMAINING: "4.0", LIMIT: "5.0"})


async def test_that_of_a_model_that_is_removed_goes(serve_file, gpt):
    running = await serve_file(models={"gpt": gpt, "scripted": script()})
    await running.stub.Caption(caption(model="gpt"), timeout=10)

    await running.reload(models={"scripted": script()})

    await running.until(REMAINING, None)
    assert await shown(running) == {}


async def test_that_of_one_provider_is_nothing_of_the_next(serve_file, gpt):
    running = await serve_file(models={"gpt": gpt})
    await running.stub.Caption(caption(), timeout=10)

    await running.reload(models={"gpt": script()})

    await running.until(REMAINING, None)
    assert await shown(running) == {}


async def test_a_new_price_changes_nothing_of_it(serve_file, gpt):
    running = await serve_file(models={"gpt": gpt, "old": script()})
    await running.stub.Caption(caption(model="gpt"), timeout=10)

    await running.reload(models={"gpt": {**gpt, "price": "free"}})
    # By then what was before has ended.
    await running.until('vision_gateway_model_ready{model="old"}', None)

    assert await shown(running) == {REMAINING: "4.0", LIMIT: "5.0"}
