"""Whatever a model writes, a parser gives a response that holds its promises, or a `GatewayError`."""

from __future__ import annotations

import json

import pytest
from google.protobuf import json_format
from hypothesis import example, given, strategies as st

from gateway import profiles, tasks
from gateway.domain import ImagePlan
from gateway.errors import GatewayError

TASKS = tasks.load()
FAMILIES = ["embedded", "gemma4", "gpt55"]
SCHEMA = {
    "type": "object",
    "properties": {"label": {"type": "string"}, "score": {"type": "number"}, "box_2d": {"type": "array"}},
}
REQUESTS = [
    ("Caption", {}),
    ("OCR", {}),
    ("OCR", {"with_regions": True}),
    ("Detect", {}),
    ("Detect", {"labels": ["cup", "cups", "wine glass"], "max_detections": 3}),
    ("Classify", {}),
    ("Classify", {"labels": ["cup", "plate"], "multi_label": True, "max_labels": 2}),
    ("VQA", {"question": "?"}),
    ("VQA", {"question": "?", "answer_schema": SCHEMA}),
]

words = st.sampled_from(["cup", "Cups", "wine-glass", "", " ", "\ud800", "\x00", "NO_TEXT"]) | st.text(max_size=8)
numbers = st.one_of(
    st.integers(-50, 2100),
    st.integers(),
    st.floats(),
    st.floats(0, 1),
    st.sampled_from([10**400, "12", "1e999", "nan", "-0", True, None]),
)
keys = st.sampled_from(
    [
        *("label", "text", "box_2d", "bbox", "x_min", "y_min", "x_max", "y_max", "x", "y", "w", "h"),
        *("score", "polygon", "detections", "lines", "labels", "answer", "unsupported", "caption"),
    ]
)
boxes = st.lists(st.integers(-50, 2100) | st.floats(-0.5, 1.5), min_size=4, max_size=4) | st.lists(
    numbers, min_size=3, max_size=5
)
elements = st.dictionaries(keys, words | numbers | boxes | st.lists(boxes, max_size=4), max_size=5)
records = st.fixed_dictionaries({"label": words, "text": words, "box_2d": boxes}, optional={"score": numbers})
json_values = st.recursive(
    words | numbers | records | elements,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=12,
)
# The form that is asked for, of which most answers are.
lists = st.dictionaries(st.sampled_from(["detections", "lines", "labels"]), st.lists(records, max_size=6), min_size=1)


@st.composite
def written(draw):
    """What a model could have written: JSON, often dressed, cut off, or broken."""
    text = json.dumps(draw(lists | json_values), ensure_ascii=draw(st.booleans()))
    before, after = draw(
        st.sampled_from(
            [("", ""), ("```json\n", "\n```"), ("Here:\n", "\nDone."), ("<|channel>thought\n[<channel|>", "<turn|>")]
        )
    )
    text = f"{before}{text}{after}"
    damage = draw(st.sampled_from(["none", "cut off", "noise"]))
    if damage == "cut off":
        text = text[: draw(st.integers(0, len(text)))]
    elif damage == "noise":
        where = draw(st.integers(0, len(text)))
        text = text[:where] + draw(st.text("{}[]\",:\\'", max_size=3)) + text[where:]
    return text


answers = written() | st.text() | st.text("{}[]\",:\\'01 ")
plans = st.builds(ImagePlan, width_px=st.integers(1, 6000), height_px=st.integers(1, 6000), token_count=st.just(0))


def sound(response):
    """Holds of every response: boxes lie in the picture, scores in [0, 1], and it survives the wire."""
    boxes = [detection.box for detection in getattr(response, "detections", ())]
    points = [point for line in getattr(response, "lines", ()) for point in line.polygon.points]
    scored = [*getattr(response, "detections", ()), *getattr(response, "lines", ()), *getattr(response, "labels", ())]
    return (
        all(0 <= box.x_min <= box.x_max <= 1 and 0 <= box.y_min <= box.y_max <= 1 for box in boxes)
        and all(0 <= point.x <= 1 and 0 <= point.y <= 1 for point in points)
        and all(0 <= each.score <= 1 for each in scored if each.HasField("score"))
        and type(response).FromString(response.SerializeToString()) == response
        and bool(json_format.MessageToJson(response))
    )


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("rpc", "fields"), REQUESTS, ids=[f"{n}-{rpc}" for n, (rpc, _) in enumerate(REQUESTS)])
@given(text=answers, plan=plans)
@example(text="{" * 5000, plan=ImagePlan(1, 1, 0))
@example(text='{"a":' * 5000, plan=ImagePlan(1, 1, 0))
@example(text="[" * 5000 + "]" * 5000, plan=ImagePlan(1, 1, 0))
@example(text='{"box_2d":[' + "9" * 5000 + ',0,1,1],"label":"cup"}', plan=ImagePlan(1, 1, 0))
@example(text='[{"label":"cup","text":"t","box_2d":[1e-320,0,5e-324,1]}]', plan=ImagePlan(6000, 1, 0))
def test_any_answer_gives_a_sound_response_or_an_error_of_ours(rpc, fields, family, text, plan):
    task, profile = TASKS[rpc], profiles.load(family)
    query = task.query(json_format.ParseDict(fields, task.request()))

    try:
        response = task.parse(profile.read(text), query, profile, plan)
    except GatewayError:
        return

    assert sound(response)


@given(
    text=answers, labels=st.lists(words.filter(str.strip), min_size=1, max_size=4, unique=True), most=st.integers(1, 3)
)
def test_a_closed_set_stays_closed(text, labels, most):
    task, profile = TASKS["Classify"], profiles.load("gemma4")
    labels = [label.encode("utf-8", "replace").decode() for label in labels]
    query = task.query(task.request(labels=labels, multi_label=True, max_labels=most))

    try:
        response = task.parse(text, query, profile, ImagePlan(1, 1, 0))
    except GatewayError:
        return

    named = [each.label for each in response.labels]
    assert (set(named) <= set(labels), len(named) <= most, len(named)) == (True, True, len(set(named)))
