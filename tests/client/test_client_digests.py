"""Both clients name images that they sent lately by their digest, and send them whole where they must."""

from __future__ import annotations

import asyncio
import hashlib
import io
import itertools
from types import SimpleNamespace

import grpc
import pytest
from PIL import Image

from tests.fixtures.scripted_gateway import Failure
from tests.fixtures.settings_file import script
from visiongateway import AsyncVisionClient, Image as ImageMessage, UnknownDigest, VisionClient, VisionError
from visiongateway._sent import SentImages
from visiongateway.v1 import vision_service_pb2 as pb

PHOTO = bytes(range(256)) * 800
DIGEST = hashlib.sha256(PHOTO).digest()
UNKNOWN = Failure(grpc.StatusCode.NOT_FOUND, "Send its bytes.", "UNKNOWN_DIGEST", {"field": "image"})
ASKED = ("x-vision-model", "gemma")


def run_sync(address, *calls, **given):
    """Makes each of *calls*, a method and its arguments; streams are read. Failures are left alone."""
    with VisionClient(address, **given) as client:
        for method, *arguments in calls:
            try:
                answer = getattr(client, method)(*arguments)
                if hasattr(answer, "__next__"):
                    list(answer)
            except VisionError:
                pass


def run_async(address, *calls, **given):
    async def run():
        async with AsyncVisionClient(address, **given) as client:
            for method, *arguments in calls:
                try:
                    answer = getattr(client, method)(*arguments)
                    if hasattr(answer, "__anext__"):
                        _ = [each async for each in answer]
                    else:
                        await answer
                except VisionError:
                    pass

    asyncio.run(run())


TWINS = pytest.mark.parametrize("run", [run_sync, run_async], ids=["sync", "async"])
CAPTION = ("caption", PHOTO)


def how(gateway):
    """How the image of each attempt travelled."""
    return [attempt.request.image.WhichOneof("source") for attempt in gateway.attempts]


@TWINS
def test_an_image_that_was_sent_is_named_by_its_digest(scripted_gateway, run):
    run(scripted_gateway.address, CAPTION, ("vqa", PHOTO, "What?"), CAPTION)

    assert how(scripted_gateway) == ["data", "digest", "digest"]
    assert scripted_gateway.attempts[1].request.image.digest == DIGEST


@TWINS
def test_an_image_that_the_gateway_has_no_longer_is_sent_at_once_within_the_same_deadline(
    scripted_gateway, run, monkeypatch
):
    # Ten seconds pass at each look at the clock: when a call begins, and at each of its tries.
    clock = SimpleNamespace(monotonic=itertools.count(step=10).__next__)
    monkeypatch.setattr("visiongateway._options.time", clock)
    answer = pb.CaptionResponse(text="a cat")
    scripted_gateway.script("Caption", answer, UNKNOWN, answer)

    run(scripted_gateway.address, CAPTION, CAPTION)

    _, named, whole = scripted_gateway.attempts
    assert how(scripted_gateway) == ["data", "digest", "data"]
    assert whole.request.image.data == PHOTO
    assert whole.metadata["x-request-id"] == named.metadata["x-request-id"]
    assert (named.time_left, whole.time_left) == pytest.approx((50, 40), abs=5)


@TWINS
def test_two_replicas_that_take_turns_soon_have_an_image_both(scripted_gateway, run):
    had = [False, False]

    def answer(request, _):
        replica = (len(scripted_gateway.attempts) - 1) % 2
        if request.image.HasField("digest") and not had[replica]:
            return UNKNOWN
        had[replica] = True
        return pb.CaptionResponse()

    scripted_gateway.script("Caption", answer)

    run(scripted_gateway.address, *[CAPTION] * 6)

    assert how(scripted_gateway) == ["data", "digest", "data", "data", "digest", "digest", "digest"]


@TWINS
@pytest.mark.parametrize(
    ("call", "rpc", "answers"),
    [
        (("stream_caption", PHOTO), "StreamCaption", [pb.StreamCaptionResponse(answer=pb.CaptionResponse())]),
        (("compare", "caption", PHOTO), "Compare", [pb.CompareResponse(agreement=pb.Agreement())]),
        (("annotate", PHOTO, ["caption"]), "Annotate", pb.AnnotateResponse()),
        (("quote", "caption", PHOTO), "Quote", pb.QuoteResponse()),
    ],
)
def test_every_call_names_images_and_sends_them_where_it_must(scripted_gateway, run, call, rpc, answers):
    scripted_gateway.script(rpc, answers, answers, UNKNOWN, answers)

    run(scripted_gateway.address, call, call, call)

    requests = [attempt.request for attempt in scripted_gateway.attempts]
    images = [each.caption.image if rpc in {"Compare", "Quote"} else each.image for each in requests]
    assert [image.WhichOneof("source") for image in images] == ["data", "digest", "digest", "data"]


@TWINS
def test_more_images_are_named_too(scripted_gateway, run):
    other = PHOTO[::-1]
    call = ("annotate", PHOTO, [("vqa", {"question": "?", "images": [other]})])

    run(scripted_gateway.address, call, call)

    last = scripted_gateway.attempts[-1].request
    assert last.tasks[0].vqa.images[0].digest == hashlib.sha256(other).digest()


@TWINS
def test_small_images_travel_whole(scripted_gateway, run):
    run(scripted_gateway.address, ("caption", b"small"), ("caption", b"small"))

    assert how(scripted_gateway) == ["data", "data"]


@TWINS
def test_who_does_not_want_it_sends_every_image_whole(scripted_gateway, run):
    run(scripted_gateway.address, CAPTION, CAPTION, hold_images=False)

    assert how(scripted_gateway) == ["data", "data"]


@TWINS
@pytest.mark.parametrize(("trailers", "expected"), [((), "data"), ((ASKED,), "digest")])
def test_a_caller_who_tries_again_names_an_image_that_a_model_was_asked_about(
    scripted_gateway, run, trailers, expected
):
    scripted_gateway.script("Caption", Failure(grpc.StatusCode.INTERNAL, trailers=trailers), pb.CaptionResponse())

    run(scripted_gateway.address, CAPTION, CAPTION)

    assert how(scripted_gateway) == ["data", expected]


def test_a_digest_of_the_callers_own_that_is_unknown_is_an_error_of_its_own(scripted_gateway):
    scripted_gateway.script("Caption", UNKNOWN)

    with VisionClient(scripted_gateway.address) as client, pytest.raises(UnknownDigest, match="Send its bytes"):
        client.caption(ImageMessage(digest=DIGEST))

    assert len(scripted_gateway.attempts) == 1


def test_a_message_of_the_callers_own_stays_as_it_is(scripted_gateway):
    image = ImageMessage(data=PHOTO)

    run_sync(scripted_gateway.address, ("caption", image), ("caption", image))

    assert (how(scripted_gateway), image.data) == (["data", "digest"], PHOTO)


def test_digests_are_remembered_for_less_than_a_minute():
    now = [1000.0]
    sent = SentImages(hold_images=True, clock=lambda: now[0])
    request = lambda: pb.CaptionRequest(image=ImageMessage(data=PHOTO))  # noqa: E731  one for each call
    sent.sending(request()).answered()
    now[0] += 44
    soon = len(sent.sending(request()).named)
    now[0] += 2

    assert (soon, len(sent.sending(request()).named)) == (1, 0)


def test_the_number_of_digests_remembered_is_bounded():
    sent = SentImages(hold_images=True)
    sent.remember([bytes([each % 256, each // 256]) * 16 for each in range(3000)])

    assert len(sent._sent) == 1024


@pytest.fixture
def photo():
    """A picture of some 500 KB that does not compress."""
    out = io.BytesIO()
    Image.effect_noise((800, 800), 100).save(out, "PNG")
    return out.getvalue()


async def test_one_image_goes_up_once_for_an_annotation_a_comparison_and_more_calls(start_gateway, start_tap, photo):
    gateway = await start_gateway(models={"one": script(answer="A cat."), "other": script(answer="A cat.")})
    tap = await start_tap(f"http://{gateway.addresses.grpc}")

    async with AsyncVisionClient(tap.url.removeprefix("http://")) as client:
        await client.annotate(photo, ["caption", "ocr", ("vqa", {"question": "What is it?"})])
        async with client.compare("caption", photo) as rows:
            answers = [row.answer.text async for row in rows]
        async with client.stream_vqa(photo, "What is it?") as words:
            text = "".join([word async for word in words])
        await client.quote("detect", photo)
        answer = await client.prompt(photo, "Say what it is.")

    assert (answers, rows.agreement.pairs[0].score, text, answer.text) == (["A cat."] * 2, 1.0, "A cat.", "A cat.")
    assert len(photo) < len(tap.sent) < 1.02 * len(photo)


async def test_a_gateway_that_holds_no_images_gets_each_one_whole_and_answers(start_gateway, start_tap, photo):
    gateway = await start_gateway(models={"one": script(answer="A cat.")}, images={"held_mib": 0})
    tap = await start_tap(f"http://{gateway.addresses.grpc}")

    async with AsyncVisionClient(tap.url.removeprefix("http://")) as client:
        texts = [(await client.caption(photo)).text for _ in range(3)]

    assert texts == ["A cat."] * 3
    assert 3 * len(photo) < len(tap.sent) < 3.02 * len(photo)
