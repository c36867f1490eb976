from __future__ import annotations

import asyncio
import sys

import grpc
import pytest

from gateway import tasks
from gateway.domain import Attempt, Options, Outcome, Priority
from gateway.server.service import SERVICE, Serving
from tests.fixtures.served_gateway import StandInTask, caption
from visiongateway.v1 import call_pb2


@pytest.mark.parametrize("rpc", sorted(tasks.load()))
async def test_every_task_of_the_proto_is_answered(served, rpc):
    task = served.tasks[rpc]
    response = await getattr(served.stub, rpc)(task.request(image=caption().image), timeout=5)
    assert response.info.model == "stand-in"


@pytest.mark.parametrize(
    ("names", "named"), [({"OCR"}, "OCR"), ({"Count"}, "Count")], ids=["one is missing", "one too many"]
)
def test_start_fails_when_proto_and_methods_differ(names, named):
    methods = {method.name: StandInTask(method) for method in SERVICE.methods if method.name not in names}
    methods |= dict.fromkeys(names - {"OCR"}, methods["VQA"])
    with pytest.raises(LookupError, match=f"proto and methods differ: {named}"):
        Serving(methods, turnstile=None, settings=None)


async def test_the_pipeline_gets_the_request_and_the_options(served):
    request = caption(language="de", options=call_pb2.CallOptions(model="m", priority="PRIORITY_COST", seed=0))
    await served.stub.Caption(request, timeout=5)
    [(rpc, seen, call)] = served.pipeline.calls
    assert (rpc, seen) == ("Caption", request)
    assert call.options == Options(model="m", priority=Priority.COST, seed=0)
    assert call.principal == "anonymous"


async def test_the_callers_deadline_is_the_calls_deadline(served):
    await served.stub.Caption(caption(), timeout=7)
    [(_, _, call)] = served.pipeline.calls
    assert call.deadline - call.received_at == pytest.approx(7, abs=0.5)


@pytest.mark.parametrize(("seconds", "given"), [(None, 40), (1e6, 90)], ids=["none", "longer than the most"])
async def test_a_deadline_is_given_where_the_caller_sets_none_or_too_long_a_one(serve, seconds, given):
    served = await serve(default_deadline_s=40, max_deadline_s=90)
    await served.stub.Caption(caption(), timeout=seconds)
    [(_, _, call)] = served.pipeline.calls
    assert call.deadline - call.received_at == pytest.approx(given)


async def test_the_callers_request_id_is_given_back(served):
    call = served.stub.Caption(caption(), metadata=(("x-request-id", "order 17/b"),))
    await call
    assert dict(await call.trailing_metadata())["x-request-id"] == "order 17/b"
    assert served.pipeline.calls[0][2].request_id == "order 17/b"


async def test_a_request_id_is_made_where_the_caller_gives_none(served):
    call = served.stub.Caption(caption())
    await call
    given = dict(await call.trailing_metadata())["x-request-id"]
    assert given == served.pipeline.calls[0][2].request_id
    assert len(given) == 32


async def test_an_answers_metadata_tells_model_and_cost(served):
    async def answer(task, _, call):
        call.trace.attempts.append(Attempt("first", Outcome.FAILED, "BACKEND_UNAVAILABLE", cost_nano_usd=3))
        call.trace.attempts.append(Attempt("größer", Outcome.OK, cost_nano_usd=4))
        response = task.response()
        response.info.model = "größer"
        return response

    served.pipeline.answer = answer
    call = served.stub.Caption(caption())
    await call
    trailers = dict(await call.trailing_metadata())
    assert trailers["x-vision-model"] == "gr%C3%B6%C3%9Fer"
    assert trailers["x-vision-cost-nano-usd"] == "7"


async def test_calls_are_counted_and_none_stays_in_flight(served):
    await asyncio.gather(*(served.stub.Caption(caption()) for _ in range(20)))
    assert served.calls("Caption", "OK") == 20
    assert served.count("vision_gateway_overhead_seconds_count", rpc="Caption") == 20
    assert served.count("vision_gateway_inflight", scope="server") == 0


async def test_a_caller_that_cancels_is_noticed_by_the_pipeline_and_counted(served):
    asked = asyncio.Event()

    async def never(*_):
        asked.set()
        await asyncio.Event().wait()

    served.pipeline.answer = never
    call = served.stub.Caption(caption(), timeout=30)
    sent = asyncio.ensure_future(_outcome(call))
    await asked.wait()
    call.cancel()
    await sent
    await served.admission.empty()
    assert served.pipeline.cancelled == 1
    assert served.calls("Caption", "CANCELLED") == 1
    assert [(line["code"], line["reason"]) for line in served.lines()] == [("CANCELLED", "CANCELLED")]


@pytest.mark.parametrize("seconds", [0.2, 1.13])
async def test_a_deadline_that_ends_is_told_apart_from_a_cancellation(served, seconds):
    async def never(*_):
        await asyncio.Event().wait()

    served.pipeline.answer = never
    assert await _outcome(served.stub.Caption(caption(), timeout=seconds)) is grpc.StatusCode.DEADLINE_EXCEEDED
    await served.admission.empty()
    assert served.pipeline.cancelled == 1
    assert served.calls("Caption", "DEADLINE_EXCEEDED") == 1


async def test_a_cancelled_call_is_logged_with_what_it_cost(served):
    async def never(_, __, call):
        try:
            await asyncio.Event().wait()
        finally:
            call.trace.attempts.append(Attempt("m", Outcome.FAILED, "CANCELLED", cost_nano_usd=11))

    served.pipeline.answer = never
    await _outcome(served.stub.Caption(caption(), timeout=0.2))
    await served.admission.empty()
    assert [(line["model"], line["cost_nano_usd"]) for line in served.lines()] == [("m", 11)]


async def _outcome(call):
    try:
        await call
    except grpc.aio.AioRpcError as exc:
        return exc.code()
    except asyncio.CancelledError:
        return grpc.StatusCode.CANCELLED
    return grpc.StatusCode.OK


async def test_while_a_call_is_worked_on_its_image_is_in_memory_only_once(served):
    holders = []

    async def count_holders(task, request, _):
        await asyncio.sleep(0)
        # This function's own name for it, and the argument of getrefcount itself.
        holders.append(sys.getrefcount(request) - 2)
        return task.response()

    served.pipeline.run = count_holders
    await served.stub.Caption(caption(), timeout=5)
    assert holders == [0]
