from __future__ import annotations

import asyncio
import gc
import time
import weakref
from contextlib import AsyncExitStack

import pytest
from prometheus_client import CollectorRegistry

from gateway import tasks
from gateway.compose import principals
from gateway.compose.generation import Generations
from gateway.compose.model import Shared
from gateway.compose.plan import plans
from gateway.latency import Latency
from gateway.metrics import Metrics
from gateway.settings import load


@pytest.fixture
async def generations(tmp_path):
    metrics = Metrics(CollectorRegistry())
    settings = load(models={"one": {"kind": "fake", "profile": "gemma4"}}, budgets={"store": f"sqlite:///{tmp_path}/b"})
    async with AsyncExitStack() as stack:
        counted = principals.open_counted(settings, stack, metrics)
        # No call goes as far as the images.
        shared = Shared(tasks=tasks.load(), preparer=None, latency=Latency(), metrics=metrics, clock=time.monotonic)
        yield await stack.enter_async_context(Generations(shared, counted))


async def opened(generations, **models):
    table = {"kind": "fake", "profile": "gemma4"}
    settings = load(models={name: {**table, **options} for name, options in models.items()})
    generation = await generations.open(settings, plans(settings))
    generations.enter(generation)
    return generation


async def test_a_generation_is_garbage_after_the_last_of_its_calls(generations):
    first = await opened(generations, one={})
    call = generations.now
    call.__enter__()
    seen = [weakref.ref(first), weakref.ref(first.models["one"])]
    second = await opened(generations, two={})
    del first
    before = [each() is None for each in seen]

    call.__exit__(None, None, None)
    del call
    for _ in range(20):
        await asyncio.sleep(0)
    gc.collect()

    assert before == [False, False]
    assert [each() is None for each in seen] == [True, True]
    assert generations.now is second


async def test_a_model_that_two_generations_have_alike_is_one_model(generations):
    first = await opened(generations, one={}, two={})
    second = await opened(generations, one={}, two={"max_inflight": 3})

    assert first.models["one"] is second.models["one"]
    assert first.models["two"] is not second.models["two"]


async def test_calls_that_began_before_are_served_as_they_began(generations):
    await opened(generations, one={})
    with generations.now as before:
        await opened(generations, two={})
        with generations.now as after:
            assert before is not after


async def test_one_that_cannot_be_opened_leaves_the_others_as_they_are(generations, tmp_path):
    first = await opened(generations, one={})
    settings = load(
        models={
            "one": {"kind": "fake", "profile": "gemma4"},
            "gpt": {"kind": "openai", "api_key_file": str(tmp_path / "nowhere")},
        }
    )

    with pytest.raises(FileNotFoundError):
        await generations.open(settings, plans(settings))
    again = await opened(generations, one={})

    assert again.models["one"] is first.models["one"]
