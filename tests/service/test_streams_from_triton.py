"""Streams through a whole gateway, with a stand-in for Triton that says what it is told when it is told to."""

from __future__ import annotations

import asyncio

from grpc import StatusCode

from tests.fixtures import kserve as kserve_module
from tests.fixtures.kserve import fails, part
from tests.fixtures.streams import Speech, caption, on_triton, read

WELL = {"kind": "fake", "profile": "gemma4", "price": "free", "answer": "A teal surface."}


async def in_flight(gateway, scope):
    _, page = await gateway.get("/metrics")
    (value,) = [
        line.split()[-1] for line in page.splitlines() if line.startswith(f'vision_gateway_inflight{{scope="{scope}"')
    ]
    return float(value)


async def test_words_reach_the_caller_while_the_model_still_writes(start_gateway, kserve):
    kserve.script = speech = Speech("A ", "cat ", "sits.")
    gateway = await start_gateway(models={"gemma": on_triton(kserve.address)})
    messages = aiter(gateway.stub.StreamCaption(caption(), timeout=20))

    first = await anext(messages)
    speech.go_on.set()
    deltas, answer, _ = await read(messages)

    assert (first.delta, "".join(deltas), answer.text) == ("A", " cat sits.", "A cat sits.")
    assert answer.info.usage.output_token_count == 3
    timing = answer.info.timing
    assert timing.HasField("time_to_first_token")
    assert timing.time_to_first_token.ToTimedelta() <= timing.upstream.ToTimedelta()


async def test_a_server_that_dies_before_the_first_word_leaves_the_call_to_the_next_model(start_gateway):
    dying = kserve_module.ScriptedTriton(script=Speech("  ", "never said"))
    server = await kserve_module.start(dying)
    gateway = await start_gateway(models={"dying": on_triton(dying.address), "well": WELL})
    reading = asyncio.create_task(read(gateway.stub.StreamCaption(caption(), timeout=20)))
    await dying.arrived.wait()

    await server.stop(None)
    deltas, answer, failed = await reading

    assert ("".join(deltas), answer.text, failed) == ("A teal surface.", "A teal surface.", None)
    assert [(attempt.model, attempt.reason) for attempt in answer.info.attempts] == [
        ("dying", "BACKEND_UNAVAILABLE"),
        ("well", ""),
    ]


async def test_a_server_that_dies_after_the_first_word_ends_the_call_as_partial(start_gateway):
    dying = kserve_module.ScriptedTriton(script=Speech("A ", "never said"))
    server = await kserve_module.start(dying)
    gateway = await start_gateway(models={"dying": on_triton(dying.address), "well": WELL})
    messages = aiter(gateway.stub.StreamCaption(caption(), timeout=20))
    first = await anext(messages)

    await server.stop(None)
    deltas, answer, failed = await read(messages)

    assert (first.delta, deltas, answer) == ("A", [], None)
    assert (failed.code, failed.reason) == (StatusCode.UNAVAILABLE, "BACKEND_UNAVAILABLE")
    assert failed.info.metadata["partial"] == "true"
    assert failed.trailers["x-vision-model"] == "dying"


async def test_a_failure_that_the_model_tells_comes_after_all_of_its_words(start_gateway, kserve):
    kserve.script = fails(StatusCode.INTERNAL, "it broke", part("A "), part("cat "))
    gateway = await start_gateway(models={"gemma": on_triton(kserve.address), "well": WELL})

    deltas, answer, failed = await read(gateway.stub.StreamCaption(caption(), timeout=20))

    assert ("".join(deltas), answer, failed.info.metadata["partial"]) == ("A cat", None, "true")


async def test_a_stream_without_its_end_is_lost_data_and_no_success(start_gateway, kserve):
    kserve.script = speech = Speech("A ", "cat ", ends=False)
    speech.go_on.set()
    gateway = await start_gateway(models={"gemma": on_triton(kserve.address), "well": WELL})

    deltas, answer, failed = await read(gateway.stub.StreamCaption(caption(), timeout=20))

    assert ("".join(deltas), answer) == ("A cat", None)
    assert (failed.code, failed.reason, failed.info.metadata["partial"]) == (
        StatusCode.DATA_LOSS,
        "TRUNCATED_ANSWER",
        "true",
    )


async def test_a_caller_that_goes_is_gone_for_the_model_too(start_gateway, kserve, caplog):
    kserve.script = Speech("A ", "never said")
    gateway = await start_gateway(models={"gemma": on_triton(kserve.address)})
    call = gateway.stub.StreamCaption(caption(), timeout=20)
    await anext(aiter(call))
    before = await in_flight(gateway, "gemma")

    call.cancel()
    await asyncio.wait_for(kserve.cancelled.wait(), 10)

    assert (before, await in_flight(gateway, "gemma"), await in_flight(gateway, "server")) == (1, 0, 0)
    assert "bug" not in caplog.text


async def test_the_callers_deadline_ends_its_stream_and_the_models_work(start_gateway, kserve):
    kserve.script = Speech("A ", "never said")
    gateway = await start_gateway(models={"gemma": on_triton(kserve.address), "well": WELL})

    deltas, answer, failed = await read(gateway.stub.StreamCaption(caption(), timeout=0.5))
    await asyncio.wait_for(kserve.cancelled.wait(), 10)

    assert (deltas, answer, failed.code) == (["A"], None, StatusCode.DEADLINE_EXCEEDED)


async def test_the_gateways_own_deadline_says_that_what_came_is_partial(start_gateway, kserve):
    kserve.script = Speech("A ", "never said")
    models = {"gemma": on_triton(kserve.address), "well": WELL}
    gateway = await start_gateway(models=models, server={"default_deadline_s": 0.5})

    deltas, _, failed = await read(gateway.stub.StreamCaption(caption()))

    assert (deltas, failed.code, failed.reason) == (["A"], StatusCode.DEADLINE_EXCEEDED, "DEADLINE")
    assert failed.info.metadata["partial"] == "true"


async def test_an_answer_that_comes_whole_is_one_delta_and_the_answer(start_gateway, triton):
    embedded = {"kind": "triton", "profile": "embedded", "address": triton.grpc_address, "model": "embedded"}
    gateway = await start_gateway(models={"embedded": embedded})

    (delta,), answer, _ = await read(gateway.stub.StreamCaption(caption(), timeout=60))

    assert (delta, answer.info.model) == (answer.text, "embedded")
    assert not answer.info.timing.HasField("time_to_first_token")


async def test_the_metrics_know_streams_and_how_long_their_first_word_took(start_gateway, kserve):
    kserve.script = speech = Speech("A ", "cat.")
    speech.go_on.set()
    gateway = await start_gateway(models={"gemma": on_triton(kserve.address)})

    await read(gateway.stub.StreamCaption(caption(), timeout=20))
    _, page = await gateway.get("/metrics")

    lines = page.splitlines()
    assert 'vision_gateway_requests_total{code="OK",rpc="StreamCaption"} 1.0' in lines
    (observed,) = [line for line in lines if line.startswith("gen_ai_server_time_to_first_token_seconds_count")]
    assert observed.endswith(" 1.0")
