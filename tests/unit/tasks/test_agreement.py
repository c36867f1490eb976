"""How far two answers to one query agree: symmetric, 1 for equal ones, and 0 for what says something else."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given, settings, strategies as st

from gateway import tasks
from gateway.tasks import _distance
from visiongateway.v1 import geometry_pb2, vision_service_pb2 as pb

TASKS = tasks.load()
TEXTS = st.text(max_size=60) | st.lists(
    st.sampled_from(["yes", "no", "27", "2.30", "230", "a", "cat,", "two", "-"])
).map(" ".join)
SIDES = st.sampled_from(list(combinations([0.0, 0.1, 0.25, 0.4, 0.5, 0.75, 1.0], 2)))
LEAVES = st.none() | st.booleans() | st.floats(-5, 5) | st.text(max_size=5)
OBJECTS = st.dictionaries(
    st.sampled_from("abc"),
    st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner)),
)


def detection(label, x, y):
    return pb.Detection(label=label, box=geometry_pb2.BoundingBox(x_min=x[0], y_min=y[0], x_max=x[1], y_max=y[1]))


def structured(answer):
    response = pb.VQAResponse()
    response.structured_answer.update(answer)
    return response


def replies(*answers):
    return [pb.VQAResponse(answer=answer) for answer in answers]


ANSWERS = {
    "caption": ("Caption", pb.CaptionRequest(), TEXTS.map(lambda text: pb.CaptionResponse(text=text))),
    "ocr": ("OCR", pb.OCRRequest(), TEXTS.map(lambda text: pb.OCRResponse(text=text))),
    "detect": (
        "Detect",
        pb.DetectRequest(),
        st.lists(st.builds(detection, st.sampled_from(["cat", "Cat", "dog"]), SIDES, SIDES), max_size=6).map(
            lambda found: pb.DetectResponse(detections=found)
        ),
    ),
    "classify": (
        "Classify",
        pb.ClassifyRequest(multi_label=True),
        st.lists(st.sampled_from(["cat", "Cat", "dog", "cow"])).map(
            lambda labels: pb.ClassifyResponse(labels=[pb.Label(label=label) for label in labels])
        ),
    ),
    "vqa: count": (
        "VQA",
        pb.VQARequest(question="How many cats?"),
        TEXTS.map(lambda text: pb.VQAResponse(answer=text)),
    ),
    "vqa: polar": ("VQA", pb.VQARequest(question="Is it red?"), TEXTS.map(lambda text: pb.VQAResponse(answer=text))),
    "vqa: open": ("VQA", pb.VQARequest(question="What is it?"), TEXTS.map(lambda text: pb.VQAResponse(answer=text))),
    "vqa: fields": ("VQA", None, OBJECTS.map(structured)),
}


def asked(rpc, request):
    if request is None:
        request = pb.VQARequest(question="What does it say?")
        request.answer_schema.update({"type": "object"})
    return TASKS[rpc], TASKS[rpc].query(request)


@pytest.mark.parametrize("kind", ANSWERS)
@settings(max_examples=60)
@given(data=st.data())
def test_agreement_is_symmetric_in_range_and_whole_for_equal_answers(kind, data):
    rpc, request, answers = ANSWERS[kind]
    task, query = asked(rpc, request)
    first, second = data.draw(answers), data.draw(answers)

    agreement = task.agreement(first, second, query)

    assert 0 <= agreement <= 1
    assert task.agreement(second, first, query) == agreement
    assert task.agreement(first, first, query) == 1


@pytest.mark.parametrize(
    ("question", "first", "second", "expected"),
    [
        ("What is the price?", "$2.30", "$230", 0),
        ("What is the price?", "$2.30", "$2.3", 1),
        ("How many are there?", "27", "127", 0),
        ("How many are there?", "27", "There are twenty-seven of them.", 1),
        ("How many are there?", "1,234", "1234", 1),
        ("Is it open?", "Yes.", "yes, the door is open", 1),
        ("Is it open?", "No", "Not sure: yes", 0),
        ("What does it say?", "0.58", "058", 0),
        ("What is it?", "The Cat!", "a cat", 1),
        ("What is it?", "black cat", "white cat", 0.5),
        ("Is it red or blue?", "red", "blue", 0),
    ],
)
def test_replies_agree_by_what_they_say(question, first, second, expected):
    task, query = asked("VQA", pb.VQARequest(question=question))

    assert task.agreement(*replies(first, second), query) == expected


def test_structured_answers_agree_field_by_field():
    task, query = asked("VQA", None)
    first = structured({"total": 2.3, "shop": "Corner Café", "items": ["tea", "milk"], "paid": True})
    second = structured({"total": 230, "shop": "corner café", "items": ["tea"], "paid": True})

    assert task.agreement(first, second, query) == (0 + 1 + 0.5 + 1) / 4


def test_boxes_agree_by_label_and_place():
    task, query = asked("Detect", pb.DetectRequest(labels=["cat", "dog"]))
    whole, half = (0.0, 0.5), (0.0, 0.25)
    first = pb.DetectResponse(detections=[detection("cat", whole, whole), detection("dog", half, half)])
    second = pb.DetectResponse(detections=[detection("cat", whole, half), detection("cat", half, half)])

    # One pair matches at an IoU of a half; two of four boxes are left.
    assert task.agreement(first, second, query) == 0.5 / (1 + 2 / 2)


def test_the_objects_that_match_are_told_by_their_places_the_closest_first():
    task, query = asked("Detect", pb.DetectRequest())
    whole, half, most = (0.0, 1.0), (0.0, 0.5), (0.0, 0.75)
    first = pb.DetectResponse(detections=[detection("dog", half, half), detection("Cat", whole, whole)])
    second = pb.DetectResponse(
        detections=[detection("cat", whole, most), detection("cat", half, half), detection("dog", half, half)]
    )

    matches = [(match.first, match.second, match.iou) for match in task.matches(first, second, query)]
    assert matches == [(0, 2, 1.0), (1, 0, 0.75)]


@given(*[ANSWERS["detect"][2]] * 2)
def test_matches_are_one_to_one_the_same_either_way_and_what_the_agreement_is_made_of(first, second):
    task, query = asked("Detect", pb.DetectRequest())

    matches = task.matches(first, second, query)

    found = len(first.detections) + len(second.detections)
    assert len({match.first for match in matches}) == len({match.second for match in matches}) == len(matches)
    assert sorted(match.iou for match in task.matches(second, first, query)) == sorted(match.iou for match in matches)
    agreement = 2 * sum(match.iou for match in matches) / found if found else 1.0
    assert task.agreement(first, second, query) == pytest.approx(agreement)


def test_what_has_no_boxes_has_no_matches():
    task, query = asked("Caption", pb.CaptionRequest())

    assert list(task.matches(pb.CaptionResponse(text="a"), pb.CaptionResponse(text="a"), query)) == []


def test_nothing_found_twice_agrees_and_nothing_against_something_does_not():
    task, query = asked("Detect", pb.DetectRequest())
    nothing, something = pb.DetectResponse(), pb.DetectResponse(detections=[detection("cat", (0, 1), (0, 1))])

    assert [task.agreement(nothing, other, query) for other in (nothing, something)] == [1, 0]


def test_read_text_agrees_by_its_characters_whatever_the_white_space():
    task, query = asked("OCR", pb.OCRRequest())
    kitten, sitting = pb.OCRResponse(text="kitten\n  mittens"), pb.OCRResponse(text="sitting mittens")

    assert task.agreement(kitten, sitting, query) == 1 - 3 / len("sitting mittens")


def test_captions_agree_by_their_words_in_scripts_without_spaces_too():
    task, query = asked("Caption", pb.CaptionRequest())

    assert task.agreement(pb.CaptionResponse(text="一只猫"), pb.CaptionResponse(text="一只狗"), query) == 2 / 3


@given(st.text(alphabet="ab é", max_size=12), st.text(alphabet="ab é", max_size=12))
def test_the_distance_is_levenshtein_s(first, second):
    row = list(range(len(second) + 1))
    for i, x in enumerate(first, start=1):
        previous, row = row, [i]
        for j, y in enumerate(second, start=1):
            row.append(min(previous[j] + 1, row[-1] + 1, previous[j - 1] + (x != y)))

    assert _distance._levenshtein(first, second) == row[-1]


@given(st.text(alphabet="abc ", max_size=30), st.text(alphabet="abc ", max_size=30))
def test_texts_too_long_to_compare_exactly_agree_by_their_trigrams(first, second):
    long = _distance._MOST_EXACT
    _distance._MOST_EXACT = 4
    try:
        ratio = _distance.similarity(first, second)

        assert 0 <= ratio <= 1
        assert _distance.similarity(second, first) == ratio
        assert _distance.similarity(first, first) == 1
    finally:
        _distance._MOST_EXACT = long
