"""Images that were sent a short while ago are named by their digest, in every RPC; real but for the models."""

from __future__ import annotations

import hashlib
import io
from contextlib import suppress

import grpc
import pytest
from grpc import StatusCode
from PIL import Image

from tests.fixtures.served_gateway import failure_of
from tests.fixtures.settings_file import principal, script
from visiongateway.v1 import image_pb2, vision_service_pb2 as pb

MODELS = {"scripted": script(answer="A cat.")}


def png(color="teal"):
    out = io.BytesIO()
    Image.new("RGB", (64, 48), color).save(out, "PNG")
    return image_pb2.Image(data=out.getvalue())


def named(image):
    return image_pb2.Image(digest=hashlib.sha256(image.data).digest())


@pytest.fixture
async def gateway(start_gateway):
    return await start_gateway(models=MODELS, images={"workers": 1})


async def last(call):
    """Gives the last message of a stream."""
    *_, message = [each async for each in call]
    return message


async def test_an_image_that_was_sent_may_be_named_by_its_digest(gateway):
    await gateway.stub.Caption(pb.CaptionRequest(image=png()), timeout=20)

    answer = await gateway.stub.VQA(pb.VQARequest(image=named(png()), question="what?"), timeout=20)

    info = answer.info.image
    assert (answer.answer, info.width_px, info.byte_count) == ("A cat.", 64, len(png().data))


async def test_every_rpc_takes_digests(gateway):
    stub, image, other = gateway.stub, named(png()), named(png("red"))
    await stub.VQA(pb.VQARequest(image=png(), images=[png("red")], question="?"), timeout=20)

    vqa = pb.VQARequest(image=image, images=[other], question="same?")
    quote = await stub.Quote(pb.QuoteRequest(vqa=vqa), timeout=20)
    vqa_answer = await stub.VQA(vqa, timeout=20)
    inner = pb.AnnotateTask(vqa=pb.VQARequest(images=[other], question="same?"))
    annotated = await stub.Annotate(pb.AnnotateRequest(image=image, tasks=[inner]), timeout=20)
    streamed = await last(stub.StreamCaption(pb.StreamCaptionRequest(image=image), timeout=20))
    compared = await last(stub.Compare(pb.CompareRequest(vqa=vqa), timeout=20))

    assert quote.candidates[0].image_token_count > 0
    assert vqa_answer.answer == annotated.results[0].answer.vqa.answer == streamed.answer.text == "A cat."
    assert compared.HasField("agreement")


async def test_a_quoted_image_need_not_be_sent_again(gateway):
    await gateway.stub.Quote(pb.QuoteRequest(caption=pb.CaptionRequest(image=png())), timeout=20)

    assert (await gateway.stub.Caption(pb.CaptionRequest(image=named(png())), timeout=20)).text == "A cat."


async def test_an_unknown_digest_is_told_with_its_field_and_what_to_do(gateway):
    await gateway.stub.Caption(pb.CaptionRequest(image=png()), timeout=20)

    request = pb.VQARequest(image=png(), images=[named(png()), named(png("red"))], question="?")
    failed = await failure_of(gateway.stub.VQA(request, timeout=20))
    quoted = await failure_of(gateway.stub.Quote(pb.QuoteRequest(vqa=request), timeout=20))

    assert (failed.code, failed.reason, failed.info.metadata["field"]) == (
        StatusCode.NOT_FOUND,
        "UNKNOWN_DIGEST",
        "images[1]",
    )
    assert failed.message == "no image that you sent lately has this digest here; send its bytes"
    assert quoted.info.metadata["field"] == "vqa.images[1]"


@pytest.mark.parametrize("size", [0, 31, 64])
async def test_a_digest_of_another_size_is_a_wrong_field(gateway, size):
    request = pb.CaptionRequest(image=image_pb2.Image(digest=bytes(size)))

    failed = await failure_of(gateway.stub.Caption(request, timeout=20))

    assert (failed.reason, failed.violations) == (
        "INVALID_FIELD",
        [("image.digest", f"has {size} bytes; a SHA-256 has 32")],
    )


async def test_nobody_names_the_images_of_others(start_gateway):
    gateway = await start_gateway(
        models=MODELS, images={"workers": 1}, principals={"ann": principal("a"), "bob": principal("b")}
    )
    await gateway.stub.Caption(pb.CaptionRequest(image=png()), timeout=20, metadata=[("authorization", "Bearer a")])

    by_name = pb.CaptionRequest(image=named(png()))
    failed = await failure_of(gateway.stub.Caption(by_name, timeout=20, metadata=[("authorization", "Bearer b")]))
    own = await gateway.stub.Caption(by_name, timeout=20, metadata=[("authorization", "Bearer a")])

    assert (failed.reason, own.text) == ("UNKNOWN_DIGEST", "A cat.")


async def test_holding_can_be_switched_off_and_on_while_it_runs(serve_file):
    on, off = ({"images": {"workers": 1, "held_mib": mib}, "models": MODELS} for mib in (1, 0))
    gateway = await serve_file(**on)
    by_name = pb.CaptionRequest(image=named(png()))
    await gateway.stub.Caption(pb.CaptionRequest(image=png()), timeout=20)
    while_on = await gateway.stub.Caption(by_name, timeout=20)

    await gateway.reload(**off)
    while_off = await failure_of(gateway.stub.Caption(by_name, timeout=20))
    await gateway.reload(**on)
    forgotten = await failure_of(gateway.stub.Caption(by_name, timeout=20))
    await gateway.stub.Caption(pb.CaptionRequest(image=png()), timeout=20)
    again = await gateway.stub.Caption(by_name, timeout=20)

    assert (while_on.text, again.text) == ("A cat.", "A cat.")
    assert (while_off.reason, forgotten.reason) == ("UNKNOWN_DIGEST", "UNKNOWN_DIGEST")


async def test_the_metrics_tell_what_is_held_and_how_often_it_is_named(gateway):
    await gateway.stub.Caption(pb.CaptionRequest(image=png()), timeout=20)
    for color in ("teal", "teal", "red"):
        with suppress(grpc.aio.AioRpcError):
            await gateway.stub.Caption(pb.CaptionRequest(image=named(png(color))), timeout=20)

    _, text = await gateway.get("/metrics")
    told = dict(line.rsplit(" ", 1) for line in text.splitlines() if line[0] != "#")
    count = {each: told[f'vision_gateway_images_named_total{{outcome="{each}"}}'] for each in ("found", "unknown")}
    assert count == {"found": "2.0", "unknown": "1.0"}
    assert float(told["vision_gateway_held_image_bytes"]) == len(png().data) + 512
