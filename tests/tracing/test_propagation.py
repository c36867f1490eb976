"""A trace goes from the caller through the gateway to the models that may be told of it."""

from __future__ import annotations

import pytest

from gateway.tracing.otel import _caller
from tests.fixtures.openai_calls import request_to, stand_in
from tests.tracing.test_traces import CALL, model, named, request

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
KEPT, NOT_KEPT = f"00-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-00"


@pytest.fixture
def start(start_gateway, traces):
    """Starts gateways whose traces are collected."""

    async def starting(models, **tracing):
        return await start_gateway(
            models=models, tracing={"endpoint": traces.endpoint, **tracing}, images={"workers": 1}
        )

    return starting


def triton(kserve):
    return {"kind": "triton", "address": kserve.address, "model": "gemma4", "price": "free", "retry": False}


async def test_the_caller_s_span_is_the_parent(start, traces):
    gateway = await start({"gemma": model()})
    await gateway.stub.Caption(request(), metadata=(("traceparent", KEPT),))
    call = named(await traces.whole(CALL), CALL)

    assert (call.trace_id, call.parent_id) == (TRACE, SPAN)


async def test_triton_is_told_the_span_of_its_request_and_the_caller_s_state(start, traces, kserve):
    gateway = await start({"gemma": triton(kserve)})
    await gateway.stub.Caption(request(), metadata=(("traceparent", KEPT), ("tracestate", "vendor=7")))
    asked = named(await traces.whole(CALL), "generate_content gemma")

    told = kserve.metadata[-1]
    assert (told["traceparent"], told["tracestate"]) == (f"00-{TRACE}-{asked.span_id}-01", "vendor=7")


async def test_a_caller_s_word_on_whether_its_call_is_kept_goes_before_the_share(start, traces, kserve):
    gateway = await start({"gemma": triton(kserve)}, sample_ratio=1.0)
    await gateway.stub.Caption(request(), metadata=(("traceparent", NOT_KEPT),))
    told = kserve.metadata[-1]["traceparent"]
    await gateway.stub.Caption(request())

    await traces.whole(CALL)
    assert TRACE not in {span.trace_id for span in traces.spans}
    assert (told.split("-")[1], told.split("-")[3]) == (TRACE, "00")


async def test_with_a_share_of_none_only_calls_are_kept_whose_callers_say_so(start, traces):
    gateway = await start({"gemma": model()}, sample_ratio=0.0)
    for _ in range(3):
        await gateway.stub.Caption(request())
    await gateway.stub.Caption(request(), metadata=(("traceparent", KEPT),))

    assert {span.trace_id for span in await traces.whole(CALL)} == {TRACE}


@pytest.mark.parametrize(("propagate", "is_told"), [("local", False), ("all", True), ("none", False)])
async def test_a_third_party_is_told_the_trace_only_where_everybody_is(start, monkeypatch, propagate, is_told):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-none")
    heads = []

    async def talk(reader, writer):
        head = await request_to(reader)
        heads.append(head.lower())
        writer.write(b"HTTP/1.1 500 Gone\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        await writer.drain()

    async with stand_in(talk) as url:
        openai = {"kind": "openai", "base_url": url, "retry": False, "breaker": False}
        gateway = await start({"gpt": openai}, propagate=propagate)
        with pytest.raises(Exception, match="UNAVAILABLE"):
            await gateway.stub.Caption(request(model="gpt"), metadata=(("traceparent", KEPT),), timeout=10)

    posted = [head for head in heads if head.startswith(b"post")]
    assert [f"traceparent: 00-{TRACE}".encode() in head for head in posted] == [is_told]


async def test_nobody_is_told_where_that_is_set(start, kserve):
    gateway = await start({"gemma": triton(kserve)}, propagate="none")
    await gateway.stub.Caption(request(), metadata=(("traceparent", KEPT),))

    assert "traceparent" not in kserve.metadata[-1]


@pytest.mark.parametrize(
    "metadata",
    [
        None,
        [("traceparent", "")],
        [("traceparent", "canary")],
        [("traceparent", KEPT[:-1])],
        [("traceparent", KEPT.upper())],
        [("traceparent", f"ff{KEPT[2:]}")],
        [("traceparent", f"00-{'0' * 32}-{SPAN}-01")],
        [("traceparent", f"00-{TRACE}-{'0' * 16}-01")],
        [("traceparent", f"01{KEPT[2:]}-{'x' * 4096}")],
        [("traceparent", KEPT), ("traceparent", KEPT)],
        [("traceparent", KEPT.encode())],
        [("tracestate", "vendor=7")],
    ],
)
def test_what_names_no_caller_s_span_is_passed_over(metadata):
    assert dict(_caller(metadata)) == {}


@pytest.mark.parametrize("state", ["x" * 513, "no pairs", b"vendor=7"])
def test_a_state_of_no_use_is_left_out_and_the_span_is_not(state):
    [span] = _caller([("traceparent", KEPT), ("tracestate", state)]).values()
    context = span.get_span_context()

    assert (f"{context.trace_id:032x}", f"{context.span_id:016x}", dict(context.trace_state)) == (TRACE, SPAN, {})
