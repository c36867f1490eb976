from __future__ import annotations

import json
from dataclasses import asdict

import pytest
from google.protobuf import json_format

from gateway import tasks
from visiongateway.v1 import image_pb2, vision_service_pb2 as pb

TASKS = tasks.load()


@pytest.mark.parametrize(
    ("rpc", "fields", "query"),
    [
        ("Caption", {}, {"detail": "normal", "language": ""}),
        ("Caption", {"detail": "CAPTION_DETAIL_SHORT", "language": "de"}, {"detail": "short", "language": "de"}),
        ("OCR", {"with_regions": True, "languages": ["de"]}, {"with_regions": True, "languages": ["de"]}),
        ("Detect", {}, {"labels": [], "prompt": "", "max_detections": 100}),
        (
            "Detect",
            {"labels": ["cup", "plate", "cup"], "prompt": " big ones ", "max_detections": 5},
            {"labels": ["cup", "plate"], "prompt": "big ones", "max_detections": 5},
        ),
        ("Classify", {}, {"labels": [], "multi_label": False, "max_labels": 1}),
        ("Classify", {"multi_label": True}, {"labels": [], "multi_label": True, "max_labels": 10}),
        ("Classify", {"labels": ["a"], "max_labels": 3}, {"labels": ["a"], "multi_label": False, "max_labels": 3}),
        ("VQA", {"question": "How many?\n"}, {"question": "How many?", "answer_schema": None}),
        (
            "VQA",
            {"question": "?", "answer_schema": {"type": "object", "minProperties": 1}},
            {"question": "?", "answer_schema": {"type": "object", "minProperties": 1}},
        ),
    ],
)
def test_a_request_becomes_the_query_that_the_embedded_model_takes(rpc, fields, query):
    task = TASKS[rpc]
    request = json_format.ParseDict(fields, task.request())

    asked = task.query(request)

    assert (asked.rpc, json.loads(json.dumps(asdict(asked)))) == (rpc, query)


def test_whole_numbers_of_a_schema_are_whole_again():
    request = pb.VQARequest(question="?")
    request.answer_schema.update({"type": "object", "properties": {"n": {"minimum": 2, "multipleOf": 0.5}}})

    schema = TASKS["VQA"].query(request).answer_schema

    assert json.dumps(schema) == '{"properties": {"n": {"minimum": 2, "multipleOf": 0.5}}, "type": "object"}'


def test_the_images_of_a_question_come_in_order_with_their_paths():
    images = [image_pb2.Image(data=bytes([n])) for n in range(3)]
    request = pb.VQARequest(image=images[0], images=images[1:])

    assert TASKS["VQA"].images(request) == [
        ("image", images[0]),
        ("images[0]", images[1]),
        ("images[1]", images[2]),
    ]


def test_there_is_a_task_for_every_rpc_that_answers_about_an_image():
    methods = pb.DESCRIPTOR.services_by_name["VisionService"].methods_by_name
    streamed = {name for name in methods if name.startswith("Stream")}
    about_tasks = {"Annotate", "Compare", "ListModels", "Quote"}

    assert set(TASKS) == set(methods) - streamed - about_tasks
    assert streamed == {f"Stream{rpc}" for rpc in ("Caption", "OCR", "VQA", "Prompt")}


@pytest.mark.parametrize("rpc", ["Caption", "OCR", "VQA", "Prompt"])
def test_a_streamed_rpc_takes_what_its_unary_one_takes(rpc):
    unary, streamed = (getattr(pb, f"{prefix}{rpc}Request").DESCRIPTOR for prefix in ("", "Stream"))
    facts = [
        [(field.name, field.number, field.type, field.label, field.message_type) for field in each.fields]
        for each in (unary, streamed)
    ]

    assert facts[1] == facts[0]
