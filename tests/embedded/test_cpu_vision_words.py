"""Names of classes, captions and answers, which are put together without a network."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from cpu_vision import caption, questions, vqa
from cpu_vision.classify import ClassScore
from cpu_vision.coco import CLASSES, class_of, plural
from cpu_vision.detect import Detection, iou
from cpu_vision.ocr import Line


def detections(*names, score=0.9):
    return [Detection(name, (0.0, 0.0, 1.0, 1.0), score) for name in names]


def classes(name="espresso", score=0.84):
    return [ClassScore(name, name, score)]


def lines(*texts, score=0.95):
    return [Line(text, [(0, 0), (1, 0), (1, 1), (0, 1)], score) for text in texts]


def looking(**seen):
    return SimpleNamespace(**({"detections": [], "classes": [], "lines": []} | seen))


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("cat", "cat"),
        ("Cats", "cat"),
        ("a mobile phone", "cell phone"),
        ("Mobile-Phones", "cell phone"),
        ("wine_glass", "wine glass"),
        ("people", "person"),
        ("knives", "knife"),
        ("lorries", "truck"),
        ("  sofa ", "couch"),
        ("dragon", None),
        ("man", None),
        ("kitten", None),
        ("", None),
    ],
)
def test_a_label_is_found_among_the_classes_of_coco(label, name):
    assert class_of(label) == name


def test_every_class_is_found_in_singular_and_plural():
    assert [(class_of(name), class_of(plural(name))) for name in CLASSES.values()] == [
        (name, name) for name in CLASSES.values()
    ]


def test_boxes_that_do_not_meet_share_nothing():
    assert iou((0, 0, 0.5, 0.5), (0.5, 0.5, 1, 1)) == 0


def test_the_overlap_of_boxes_is_the_shared_part_of_what_they_cover():
    assert iou((0, 0, 1, 0.5), (0, 0, 0.5, 1)) == pytest.approx(0.25 / 0.75)


def test_a_short_caption_names_the_objects():
    assert caption.short(detections("cup", "cup", "dining table", "umbrella"), classes()) == (
        "2 cups, a dining table and an umbrella."
    )


def test_a_short_caption_without_objects_names_the_class():
    assert caption.short([], classes()) == "Likeliest class: espresso (84%)."


def test_a_caption_says_what_is_known():
    assert caption.full("normal", detections("cup", "scissors"), classes(), lines("Tourist", "information")) == (
        "The picture shows a cup and scissors. Likeliest class: espresso (84%). "
        'It contains the text "Tourist information".'
    )


def test_a_long_caption_adds_scores():
    assert caption.full("long", detections("cup", score=0.951), classes(score=0.1), []) == (
        "The picture shows a cup (95%)."
    )


def test_a_caption_leaves_out_text_that_is_not_sure():
    assert caption.full("normal", detections("cup"), [], [*lines("YAMAMA", score=0.89), *lines("8")]) == (
        "The picture shows a cup."
    )


def test_a_caption_leaves_out_a_class_that_is_not_likely():
    assert caption.full("normal", [], classes(score=0.39), []) == ""


def test_a_caption_of_much_text_is_cut():
    assert len(caption.full("normal", [], [], lines("word " * 500))) < 250


def test_a_caption_of_nothing_says_that_and_how_it_came_about():
    assert caption.marked("") == (
        "Nothing was recognised with enough confidence. (Composed from detected objects, classes and text.)"
    )


@pytest.mark.parametrize(
    ("question", "seen", "answer"),
    [
        (questions.HowMany("cup"), {"detections": detections("cup", "bowl", "cup")}, "2 cups found."),
        (questions.HowMany("person"), {}, "0 people found."),
        (questions.IsThere("cat"), {"detections": detections("cat")}, "Yes, 1 cat found."),
        (questions.IsThere("dog"), {"detections": detections("cat")}, "No dog found."),
        (questions.IsThereText(), {"lines": lines("a", "b")}, "Yes, 2 lines of text found."),
        (questions.IsThereText(), {}, "No text found."),
        (questions.WhatDoesItSay(), {"lines": lines("Tourist", "information")}, "Tourist\ninformation"),
        (questions.WhatDoesItSay(), {}, "No text found."),
        (questions.DoesItContain("total  DUE"), {"lines": lines("Total due 12")}, 'Yes, in the line "Total due 12".'),
        (questions.DoesItContain("due total"), {"lines": lines("is due", "total 12")}, "Yes, across lines."),
        (questions.DoesItContain("tax"), {"lines": lines("x")}, "No, none of the text that was read contains it."),
        (questions.WhatIsIt(), {"detections": detections("cat")}, "The picture shows a cat."),
        (questions.WhatIsIt(), {}, "Nothing was recognised with enough confidence."),
        (
            questions.WhatSize("both"),
            {"picture": SimpleNamespace(width_px=451, height_px=300)},
            "The picture that reached the model is 451 pixels wide and 300 pixels high.",
        ),
        (
            questions.WhatSize("height"),
            {"picture": SimpleNamespace(width_px=451, height_px=300)},
            "The picture that reached the model is 300 pixels high.",
        ),
    ],
)
def test_a_question_is_answered_from_what_is_seen(question, seen, answer):
    assert vqa.answer(question, looking(**seen)) == answer
