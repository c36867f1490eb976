"""What makes an answer doubtful that has its form, and what does not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from google.protobuf import json_format

from gateway import profiles, tasks
from gateway.domain import ImagePlan
from gateway.errors import GatewayError
from gateway.tasks import Doubt
from visiongateway.v1 import vision_service_pb2 as pb

TASKS = tasks.load()
PLAN = ImagePlan(1000, 1000, 0)
ANSWERS = Path(__file__).parents[2] / "answers"
LOOP = "The cat sat on the mat and " * 10
PROSE = (
    "A narrow street in the evening light: two cyclists wait at a crossing while a tram passes behind them, and people "
    "sit under the awning of a café on the corner, where a waiter carries a tray of glasses to a table by the door."
)


def doubts(request, text, *, category="", family="gpt55"):
    task = TASKS[type(request).__name__.removesuffix("Request")]
    query, profile = task.query(request), profiles.load(family)
    response = task.parse(text, query, profile, PLAN)
    return [*task.left_out(text, response, query), *task.doubts(response, query, category)]


def boxes(*found):
    return json.dumps({"detections": [{"label": label, "box_2d": box} for label, box in found]})


def labels(*found):
    return json.dumps({"labels": [{"label": label} for label in found]})


def vqa(question):
    return pb.VQARequest(question=question)


def with_schema():
    request = pb.VQARequest(question="What does it say?")
    request.answer_schema.update({"type": "object", "properties": {"total": {}, "items": {}}})
    return request


CAT, DOG, FAR = [0, 0, 400, 400], [500, 500, 900, 900], [100, 600, 300, 950]
COLOURS = ["red", "green", "blue", "white", "black"]

DOUBTFUL = {
    "captions": [
        (pb.CaptionRequest(), "I'm sorry, but I can't help with that.", Doubt.EVASIVE_ANSWER),
        (pb.CaptionRequest(), "I can\u2019t see any image.", Doubt.EVASIVE_ANSWER),
        (pb.CaptionRequest(), LOOP, Doubt.REPEATED_TEXT),
    ],
    "text": [
        (pb.OCRRequest(languages=["de"]), "NO_TEXT", Doubt.EMPTY_TEXT),
        (pb.OCRRequest(with_regions=True), '{"lines": []}', Doubt.EMPTY_TEXT),
        (pb.OCRRequest(), "The image contains no visible text.", Doubt.EVASIVE_ANSWER),
        (pb.OCRRequest(), "I am unable to read the text.", Doubt.EVASIVE_ANSWER),
        (pb.OCRRequest(), "Total amount due\n" * 20, Doubt.REPEATED_TEXT),
    ],
    "boxes": [
        (pb.DetectRequest(), boxes(("cat", [0, 0, 1000, 1000])), Doubt.WHOLE_PICTURE),
        (pb.DetectRequest(), boxes(("cat", [-50, -50, 1100, 1200])), Doubt.WHOLE_PICTURE),
        (pb.DetectRequest(), boxes(("cat", CAT), ("dog", CAT), ("cow", CAT)), Doubt.SAME_BOX),
        (pb.DetectRequest(), boxes(("cat", CAT), ("cat", [1, 0, 401, 400])), Doubt.REPEATED_BOXES),
        (pb.DetectRequest(), boxes(*[("cat", CAT)] * 9), Doubt.REPEATED_BOXES),
        (pb.DetectRequest(), boxes(("cat", CAT), ("dog", [5, 5, 5, 9]), ("cow", [7, 7, 7, 9])), Doubt.USELESS_BOXES),
        (
            pb.DetectRequest(),
            boxes(("cat", CAT), ("dog", [1200, 0, 1300, 100]), ("cow", [1500, 0, 1600, 100])),
            Doubt.USELESS_BOXES,
        ),
        (pb.DetectRequest(labels=["cat"]), boxes(("cat", CAT), ("dog", DOG), ("cow", FAR)), Doubt.UNKNOWN_LABELS),
    ],
    "labels": [
        (pb.ClassifyRequest(labels=["cat"], multi_label=True), labels("cat", "dog", "cow"), Doubt.UNKNOWN_LABELS),
        (pb.ClassifyRequest(labels=COLOURS, multi_label=True), labels(*COLOURS), Doubt.EVERY_LABEL),
        (pb.ClassifyRequest(), labels("I cannot identify the subject"), Doubt.EVASIVE_ANSWER),
    ],
    "answers": [
        (vqa("How many cats are there?"), "There are several.", Doubt.NO_NUMBER),
        (vqa("How wide is it? Return only a real number."), "Quite wide.", Doubt.NO_NUMBER),
        (vqa("Is the door open?"), "The door.", Doubt.NO_YES_OR_NO),
        (vqa("Look at the glass. Cracked? Answer only yes or no."), "It is cracked.", Doubt.NO_YES_OR_NO),
        (vqa("What is it?"), "Sorry, but I cannot tell from this.", Doubt.EVASIVE_ANSWER),
        (vqa("What is it?"), "As an AI, I do not see.", Doubt.EVASIVE_ANSWER),
        (vqa("What is it?"), LOOP, Doubt.REPEATED_TEXT),
        (with_schema(), '{"total": null, "items": [""]}', Doubt.EMPTY_FIELDS),
    ],
}


@pytest.mark.parametrize(
    ("request_", "text", "doubt"),
    [
        pytest.param(*case, id=f"{kind} {place} {case[2]}")
        for kind, cases in DOUBTFUL.items()
        for place, case in enumerate(cases)
    ],
)
def test_an_answer_that_says_little_is_doubtful(request_, text, doubt):
    assert doubts(request_, text) == [doubt]


def test_every_doubt_is_raised_by_some_answer():
    assert {doubt for cases in DOUBTFUL.values() for _, _, doubt in cases} == set(Doubt)


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        (pb.CaptionRequest(), PROSE),
        (pb.CaptionRequest(), "A sign that says sorry."),
        (pb.OCRRequest(), "NO_TEXT"),
        (pb.OCRRequest(), "Sorry, we are closed"),
        (pb.OCRRequest(), "\n".join(f"{n} kg {n}.30" for n in range(40))),
        (pb.OCRRequest(), "PLN\n" * 12),
        (pb.DetectRequest(labels=["cat"]), boxes()),
        (pb.DetectRequest(), boxes(("person", CAT), ("face", CAT))),
        (pb.DetectRequest(), boxes(("cat", CAT), ("cat", DOG), ("cat", FAR), ("cat", [5, 5, 5, 9]))),
        (pb.DetectRequest(labels=["cat"]), boxes(("cat", CAT), ("dog", DOG))),
        (pb.DetectRequest(labels=["cat"], max_detections=1), boxes(("cat", CAT), ("cat", DOG), ("cat", FAR))),
        (pb.DetectRequest(), '{"detections": [{"label": "cat", "box_2d": [0, 0, 400, 400],},]}'),
        (pb.ClassifyRequest(labels=["cat", "dog"], multi_label=True), labels()),
        (pb.ClassifyRequest(labels=["cat", "dog"], multi_label=True), labels("cat", "dog")),
        (pb.ClassifyRequest(labels=["cat", "dog"]), "Cats"),
        (vqa("How many cats are there?"), "twenty-seven"),
        (vqa("How many cats are there?"), "None."),
        (vqa("Is the door open?"), "No, it is closed."),
        (vqa("Is the door open or closed?"), "closed"),
        (vqa("How many cats are there? A) 3 B) 5"), "B"),
        (vqa("How many are in a pack? Return only a number. If there is none, return NULL."), "NULL"),
        (vqa("Wie viele Katzen sind das?"), "drei"),
        (with_schema(), '{"total": 0, "items": []}'),
    ],
    ids=[str(place) for place in range(23)],
)
def test_an_answer_that_may_well_be_right_is_not_doubtful(request_, text):
    assert doubts(request_, text) == []


@pytest.mark.parametrize(("category", "expected"), [("Document", [Doubt.EMPTY_TEXT]), ("object", [])])
def test_that_a_document_has_no_text_is_doubtful(category, expected):
    assert doubts(pb.OCRRequest(), "NO_TEXT", category=category) == expected


# Made to be of little use, or a picture of which nobody knows whether there is text in it.
EXPECTED = {
    "gemma4/ocr/regions_none": [Doubt.EMPTY_TEXT],
    "gpt55/ocr/regions_none": [Doubt.EMPTY_TEXT],
    "gpt55/detect/beyond_the_edges": [Doubt.WHOLE_PICTURE],
    "gpt55/detect/numbers_that_are_none": [Doubt.USELESS_BOXES],
}


def test_hardly_any_answer_of_a_family_that_can_be_used_is_doubtful():
    found = {}
    for path in sorted(ANSWERS.glob("*/*/*.txt")):
        family, name = path.parts[-3:-1]
        task = next(task for task in TASKS.values() if task.rpc.lower() == name)
        case, profile = json.loads(path.with_suffix(".json").read_text("utf-8")), profiles.load(family)
        query = task.query(json_format.ParseDict(case["request"], task.request()))
        try:
            text = profile.read(path.read_bytes().decode("utf-8"))
            response = task.parse(text, query, profile, ImagePlan(*case["sent"], token_count=0))
        except GatewayError:
            continue
        reasons = [*task.left_out(text, response, query), *task.doubts(response, query, "")]
        if reasons:
            found[f"{family}/{name}/{path.stem}"] = reasons

    assert found == EXPECTED
