from __future__ import annotations

import pytest
from google.protobuf import json_format

from gateway import tasks

TASKS = tasks.load()


def wrong(rpc, **fields):
    task = TASKS[rpc]
    request = json_format.ParseDict(fields, task.request())
    return {violation.field: violation.description for violation in task.violations(request)}


@pytest.mark.parametrize(
    ("rpc", "fields"),
    [
        ("Caption", {}),
        ("Caption", {"detail": "CAPTION_DETAIL_LONG", "language": "pt-BR"}),
        ("OCR", {"languages": ["de"] * 8}),
        ("Detect", {}),
        ("Detect", {"labels": ["x" * 100] * 100, "prompt": "y" * 4000, "max_detections": 1000}),
        ("Classify", {"labels": [f"label {n}" for n in range(500)], "max_labels": 100}),
        ("VQA", {"question": "?" * 8000, "images": [{}] * 7}),
    ],
)
def test_a_request_at_its_limits_is_right(rpc, fields):
    assert wrong(rpc, **fields) == {}


@pytest.mark.parametrize(
    ("rpc", "fields", "violations"),
    [
        ("Caption", {"detail": 7}, {"detail": "is 7, which is no CaptionDetail"}),
        ("Caption", {"language": "German!"}, {"language": "is not a BCP 47 language tag such as `de` or `pt-BR`"}),
        ("Caption", {"language": "de-" * 12}, {"language": "is 36 characters long; at most 35 are allowed"}),
        ("OCR", {"languages": ["de"] * 9}, {"languages": "has 9 tags; at most 8 are allowed"}),
        ("OCR", {"languages": ["de", ""]}, {"languages[1]": "is not a BCP 47 language tag such as `de` or `pt-BR`"}),
        ("Detect", {"labels": ["a"] * 101}, {"labels": "has 101 labels; at most 100 are allowed"}),
        ("Detect", {"labels": ["a", " "]}, {"labels[1]": "is empty"}),
        ("Detect", {"labels": ["a" * 101]}, {"labels[0]": "is 101 characters long; at most 100 are allowed"}),
        ("Detect", {"prompt": "a" * 4001}, {"prompt": "is 4001 characters long; at most 4000 are allowed"}),
        ("Detect", {"max_detections": 0}, {"max_detections": "is 0; the range is [1, 1000]"}),
        ("Detect", {"max_detections": 1001}, {"max_detections": "is 1001; the range is [1, 1000]"}),
        ("Classify", {"labels": ["a", "b", "a"]}, {"labels[2]": "repeats labels[0]"}),
        ("Classify", {"max_labels": 101}, {"max_labels": "is 101; the range is [1, 100]"}),
        ("VQA", {}, {"question": "is empty"}),
        ("VQA", {"question": "a" * 8001}, {"question": "is 8001 characters long; at most 8000 are allowed"}),
        ("VQA", {"question": "?", "images": [{}] * 8}, {"images": "has 8 more images; at most 7 are allowed"}),
    ],
)
def test_a_field_out_of_range_is_named_with_its_limit(rpc, fields, violations):
    assert wrong(rpc, **fields) == violations


def test_everything_that_is_wrong_is_told_at_once():
    assert wrong("Detect", labels=["", "b" * 101], prompt="c" * 4001, max_detections=-1).keys() == {
        "labels[0]",
        "labels[1]",
        "prompt",
        "max_detections",
    }


def test_labels_past_the_limit_are_counted_but_not_looked_at():
    assert wrong("Classify", labels=[""] * 500 + ["a"] * 2).keys() == {
        "labels",
        *(f"labels[{index}]" for index in range(500)),
    }


@pytest.mark.parametrize(
    "tag", ["de", "pt-BR", "zh-Hant-TW", "sl-rozaj-biske", "es-419", "de-DE-u-co-phonebk", "x-klingon", "YUE"]
)
def test_a_well_formed_language_tag_is_right(tag):
    assert wrong("Caption", language=tag) == {}


@pytest.mark.parametrize("tag", ["d", "de_DE", "de-", "-de", "de--AT", "en US", "de\n", "日本語", "de-a", "123"])
def test_a_malformed_language_tag_is_wrong(tag):
    assert wrong("Caption", language=tag).keys() == {"language"}
