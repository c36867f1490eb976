"""The embedded model on a real Triton, over the wire contract."""

from __future__ import annotations

import asyncio
import io
import struct

import grpc
import pytest
from PIL import Image, ImageDraw, ImageFont

from cpu_vision.detect import iou

# Drawn by hand around the cat, whose head fills the photograph from its left edge to its right ear.
CAT = (0.0, 0.0, 0.89, 1.0)
INVOICE = """\
Northwind Paper Company
12 Harbour Street, Bristol BS1 4RN
Invoice number: INV-2026-00417
Date of issue: 14 March 2026
Customer: Blue Door Bakery Ltd
12 x Kraft paper roll, 60 cm
4 x Gift box, large, matt black
250 x Greaseproof sheet A4
Subtotal 418.50 GBP
VAT 20 % 83.70 GBP
Total due 502.20 GBP
Please pay within 30 days of the date of issue.""".splitlines()


@pytest.fixture(scope="module")
def invoice():
    return page(INVOICE)


def page(lines, *, scale=1.0):
    picture = Image.new("RGB", (900, 60 + 44 * len(lines)), "white")
    draw = ImageDraw.Draw(picture)
    for number, line in enumerate(lines):
        draw.text((40, 30 + 44 * number), line, fill="black", font=ImageFont.load_default(24))
    return png(picture.resize((int(picture.width * scale), int(picture.height * scale))))


def png(picture):
    written = io.BytesIO()
    picture.save(written, "PNG")
    return written.getvalue()


def edits(read, written):
    """Levenshtein's distance."""
    row = list(range(len(written) + 1))
    for i, a in enumerate(read, 1):
        previous, row[0] = row[0], i
        for j, b in enumerate(written, 1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (a != b))
    return row[-1]


async def until(look, is_so=bool):
    while not is_so(await look()):  # noqa: ASYNC110  Triton's metrics tell nobody of a change
        await asyncio.sleep(0.01)


async def test_a_cat_is_found_where_it_is(ask, chelsea):
    (cat,) = (await ask(chelsea, rpc="Detect"))["detections"]

    assert cat["label"] == "cat"
    assert iou(tuple(cat["box_2d"]), CAT) > 0.5
    assert 0.5 < cat["score"] <= 1


async def test_objects_go_by_the_callers_own_words(ask, coffee):
    answer = await ask(coffee, rpc="Detect", labels=["Mobile phone", "MUGS"])

    assert [found["label"] for found in answer["detections"]] == ["MUGS"]


async def test_no_more_objects_than_asked_for_are_returned(ask, coffee):
    answer = await ask(coffee, rpc="Detect", labels=[], max_detections=1)

    assert [found["label"] for found in answer["detections"]] == ["cup"]


async def test_an_invoice_is_read_with_less_than_two_wrong_characters_in_a_hundred(ask, invoice):
    lines = (await ask(invoice, rpc="OCR"))["lines"]

    read, written = "\n".join(line["text"] for line in lines), "\n".join(INVOICE)
    assert edits(read, written) / len(written) < 0.02


async def test_lines_of_text_are_outlined_clockwise_from_their_top_left(ask, invoice):
    first = (await ask(invoice, rpc="OCR"))["lines"][0]["polygon"]

    width, height = 900, 588
    left, top, right, bottom = ImageFont.load_default(24).getbbox(INVOICE[0])
    corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
    drawn = [coordinate for x, y in corners for coordinate in ((40 + x) / width, (30 + y) / height)]
    assert [coordinate for point in first for coordinate in point] == pytest.approx(drawn, abs=0.02)


async def test_a_picture_without_text_has_no_lines(ask):
    assert await ask(png(Image.new("RGB", (200, 200), "white")), rpc="OCR") == {"lines": []}


async def test_a_cat_is_classified_as_a_cat(ask, chelsea):
    (label,) = (await ask(chelsea, rpc="Classify"))["labels"]

    assert label["label"] == "Egyptian cat"


async def test_labels_of_the_caller_come_back_exactly_as_given(ask, chelsea):
    answer = await ask(chelsea, rpc="Classify", labels=["a Dog", "the CAT", "Fire engine"], max_labels=3)

    assert next(label["label"] for label in answer["labels"]) == "the CAT"
    assert {label["label"] for label in answer["labels"]} == {"a Dog", "the CAT", "Fire engine"}


async def test_of_several_labels_only_those_near_the_picture_hold(ask, chelsea):
    answer = await ask(chelsea, rpc="Classify", labels=["cat", "feline", "lorry"], multi_label=True, max_labels=10)

    assert {label["label"] for label in answer["labels"]} == {"cat", "feline"}


async def test_a_caption_names_the_object_and_says_that_it_was_composed(ask, chelsea):
    answer = await ask(chelsea, rpc="Caption", detail="normal", language="")

    assert answer == {
        "text": "The picture shows a cat. Likeliest class: Egyptian cat (86%). "
        "(Composed from detected objects, classes and text.)"
    }


async def test_a_caption_of_nothing_says_so(ask):
    answer = await ask(png(Image.new("RGB", (300, 300), "grey")), rpc="Caption")

    assert answer == {
        "text": "Nothing was recognised with enough confidence. (Composed from detected objects, classes and text.)"
    }


async def test_cups_are_counted(ask, coffee):
    assert await ask(coffee, rpc="VQA", question="How many cups are there?") == {"answer": "1 cup found."}


async def test_text_is_found_in_an_invoice(ask, invoice):
    answer = await ask(invoice, rpc="VQA", question='Does it contain "vat 20 %"?')

    assert answer == {"answer": 'Yes, in the line "VAT 20 % 83.70 GBP".'}


@pytest.mark.parametrize(
    ("query", "reason", "named"),
    [
        ({"rpc": "VQA", "question": "Is there a dragon?"}, "labels", '"dragon"'),
        ({"rpc": "VQA", "question": "Why is the cup red?"}, "question", "this question"),
        ({"rpc": "VQA", "question": "How many cups?", "answer_schema": {"type": "object"}}, "schema", "schema"),
        ({"rpc": "Detect", "labels": ["cup", "Drache"]}, "labels", '"Drache"'),
        ({"rpc": "Detect", "labels": ["cup"], "prompt": "only red ones"}, "prompt", "prompt"),
        ({"rpc": "Classify", "labels": ["happy", "sad"]}, "labels", "espresso"),
        ({"rpc": "Caption", "language": "de-AT"}, "language", '"de-AT"'),
        ({"rpc": "OCR", "languages": ["en", "ru"]}, "language", '"ru"'),
        ({"rpc": "Segment"}, "rpc", "Caption, OCR, Detect, Classify, VQA"),
    ],
)
async def test_what_cannot_be_done_is_refused_by_name(ask, coffee, query, reason, named):
    refusal = (await ask(coffee, **query))["unsupported"]

    assert refusal["reason"] == reason
    assert named in refusal["message"]


async def test_more_than_one_image_is_refused(ask, chelsea, coffee):
    assert (await ask(chelsea, coffee, rpc="Caption"))["unsupported"]["reason"] == "images"


@pytest.mark.parametrize(
    ("images", "options", "details"),
    [
        ([b"GIF? No."], {"rpc": "Detect"}, "the image cannot be decoded"),
        ([], {"rpc": "Detect"}, "the required input 'image_bytes' is missing"),
        ([b""], {"text": "detect!"}, "the query is not JSON"),
        ([b""], {"text": "[]"}, "the query is not a JSON object"),
        ([b""], {"rpc": "Detect", "labels": "cat"}, "labels of the query is not of type list"),
        ([b""], {"rpc": "Detect", "labels": [1]}, "labels of the query holds something that is not text"),
    ],
)
async def test_a_wrong_request_is_an_invalid_argument(ask, images, options, details):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await ask(*images, **options)

    assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.INVALID_ARGUMENT, details)


async def test_an_answer_is_one_final_response_with_all_outputs(ask, coffee):
    told = await ask.told(coffee, rpc="Detect")

    assert told.final
    assert {name: raw for name, raw in told.outputs.items() if name != "text_output"} == {
        "reasoning_output": struct.pack("<I", 0),
        "finish_reason": struct.pack("<I", 4) + b"stop",
        "num_input_tokens": struct.pack("<I", 0),
        "num_output_tokens": struct.pack("<I", 0),
    }


async def test_outputs_that_nobody_asked_for_stay_away(ask, coffee):
    told = await ask.told(coffee, rpc="Detect", outputs=["text_output", "finish_reason"])

    assert set(told.outputs) == {"text_output", "finish_reason"}


async def test_sixteen_requests_at_once_are_all_answered_right(ask, chelsea, coffee, invoice):
    asked = [
        (chelsea, {"rpc": "Detect"}, lambda a: [d["label"] for d in a["detections"]] == ["cat"]),
        (coffee, {"rpc": "Detect"}, lambda a: [d["label"] for d in a["detections"]] == ["cup", "dining table"]),
        (chelsea, {"rpc": "Classify"}, lambda a: a["labels"][0]["label"] == "Egyptian cat"),
        (coffee, {"rpc": "Classify"}, lambda a: a["labels"][0]["label"] == "espresso"),
        (coffee, {"rpc": "Classify", "labels": ["cat", "coffee"]}, lambda a: a["labels"][0]["label"] == "coffee"),
        (coffee, {"rpc": "VQA", "question": "how many cups?"}, lambda a: a == {"answer": "1 cup found."}),
        (chelsea, {"rpc": "Caption", "detail": "short"}, lambda a: a["text"].startswith("A cat.")),
        (invoice, {"rpc": "OCR"}, lambda a: len(a["lines"]) == len(INVOICE)),
    ] * 2

    answers = await asyncio.gather(*(ask(image, **query) for image, query, _ in asked))

    assert [right(answer) for answer, (*_, right) in zip(answers, asked, strict=True)] == [True] * 16


async def test_a_cancelled_request_ends_and_is_seen_in_tritons_own_metrics(ask):
    large = page(INVOICE * 3, scale=1.25)
    before = await ask.metric("vision_embedded_requests_total", rpc="OCR", outcome="cancelled")
    call = ask.start(large, rpc="OCR")
    reading = asyncio.create_task(anext(aiter(call)))
    while not await ask.metric("vision_embedded_in_flight"):  # noqa: ASYNC110  another process counts
        await asyncio.sleep(0)

    call.cancel()

    with pytest.raises(asyncio.CancelledError):
        await reading
    # The answer would take seconds. How soon it ends is measured elsewhere; here, that it does.
    async with asyncio.timeout(30):
        await until(
            lambda: ask.metric("vision_embedded_requests_total", rpc="OCR", outcome="cancelled"),
            lambda value: value == before + 1,
        )
        await until(lambda: ask.metric("vision_embedded_in_flight"), lambda value: value == 0)


async def test_more_requests_than_are_taken_are_unavailable_at_once(ask):
    large = page(INVOICE * 3, scale=1.25)
    calls = [ask.start(large, rpc="OCR") for _ in range(33)]
    readings = [asyncio.create_task(anext(aiter(call))) for call in calls]

    done, _ = await asyncio.wait(readings, return_when=asyncio.FIRST_EXCEPTION)

    refused = [reading.exception() for reading in done if reading.exception()]
    for call in calls:
        call.cancel()
    await asyncio.wait(readings)
    assert [(error.code(), error.details()) for error in refused] == [
        (grpc.StatusCode.UNAVAILABLE, "too many requests in flight")
    ]
