"""Quotes through the whole gateway, before models that are scripted and must not be asked."""

from __future__ import annotations

import grpc
import pytest

from visiongateway.v1 import call_pb2, image_pb2, vision_service_pb2 as pb

MODELS = {
    "gpt": {"kind": "fake", "profile": "gpt55", "price": {"input": "5", "output": "30"}, "answer": "A cat."},
    "gemma": {"kind": "fake", "profile": "gemma4", "answer": "A cat."},
}


@pytest.fixture
async def gateway(start_gateway):
    return await start_gateway(models=MODELS)


def quote(photograph, **options):
    request = pb.CaptionRequest(image=image_pb2.Image(data=photograph), options=call_pb2.CallOptions(**options))
    return pb.QuoteRequest(caption=request)


async def test_every_model_of_the_route_is_priced_in_order_and_none_is_asked(gateway, chelsea):
    answer = await gateway.stub.Quote(quote(chelsea))

    assert [(c.model, c.image_token_count, c.skip_reason) for c in answer.candidates] == [
        ("gpt", 180, ""),
        ("gemma", 128, ""),
    ]
    assert all(0 < c.expected_cost_nano_usd < c.max_cost_nano_usd for c in answer.candidates)
    assert "vision_gateway_attempts_total{" not in (await gateway.get("/metrics"))[1]


async def test_a_call_costs_no_more_than_its_quote_and_sends_the_image_of_it(gateway, chelsea):
    request = quote(chelsea, model="gpt")
    [priced] = (await gateway.stub.Quote(request)).candidates
    info = (await gateway.stub.Caption(request.caption)).info

    assert info.cost_nano_usd <= priced.max_cost_nano_usd
    assert (info.image.sent_width_px, info.image.sent_height_px) == (priced.sent_width_px, priced.sent_height_px)
    assert info.image.token_count == priced.image_token_count


async def test_a_quote_under_a_limit_is_that_of_the_call_as_it_would_fit(gateway, chelsea):
    [free] = (await gateway.stub.Quote(quote(chelsea, model="gpt"))).candidates
    limit = free.max_cost_nano_usd - 30_000
    [fitted] = (await gateway.stub.Quote(quote(chelsea, model="gpt", max_cost_nano_usd=limit))).candidates

    assert fitted.max_output_token_count == free.max_output_token_count - 1
    assert fitted.max_cost_nano_usd == limit


async def test_a_model_that_would_be_passed_over_is_shown_with_its_price_and_the_reason(gateway, chelsea):
    answer = await gateway.stub.Quote(quote(chelsea, max_cost_nano_usd=400_000))

    assert [(c.model, c.skip_reason) for c in answer.candidates] == [("gpt", "COST_ABOVE_LIMIT"), ("gemma", "")]
    assert answer.candidates[0].expected_cost_nano_usd > 400_000


async def test_max_image_tokens_bounds_the_image_of_each_model_that_can(gateway, chelsea):
    answer = await gateway.stub.Quote(quote(chelsea, max_image_tokens=100))

    assert [c.image_token_count for c in answer.candidates] == [93, 62]


@pytest.mark.parametrize(
    ("request_", "named"),
    [
        (pb.QuoteRequest(), "task: must be one of caption, "),
        (pb.QuoteRequest(caption=pb.CaptionRequest(options={"seed": -1})), "caption.options.seed: must be at least 0"),
    ],
    ids=["no task", "a wrong field within"],
)
async def test_what_is_wrong_with_a_quote_is_named_by_its_path(gateway, request_, named):
    with pytest.raises(grpc.aio.AioRpcError, match=named) as caught:
        await gateway.stub.Quote(request_)

    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_an_image_that_is_none_is_refused_like_in_the_call_itself(gateway):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await gateway.stub.Quote(quote(b"no image"))

    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_the_image_of_a_quote_may_be_as_large_as_that_of_a_call(gateway, chelsea):
    # What follows a PNG's end is ignored.
    answer = await gateway.stub.Quote(quote(chelsea + bytes(3 << 20)))

    assert len(answer.candidates) == 2


async def test_the_time_to_expect_is_told_once_enough_calls_were_answered(gateway, chelsea):
    request = quote(chelsea, model="gpt")
    [before] = (await gateway.stub.Quote(request)).candidates
    for _ in range(5):
        await gateway.stub.Caption(request.caption)
    [after] = (await gateway.stub.Quote(request)).candidates

    assert (before.HasField("expected_latency"), after.expected_latency.ToNanoseconds() > 0) == (False, True)
