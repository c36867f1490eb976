from __future__ import annotations

from dataclasses import asdict, fields, replace

import pytest
from hypothesis import given, strategies as st

from gateway import tasks
from gateway.cache.key import ANSWER_OPTIONS, Asked, key_of
from gateway.domain import Ask, ImageDetail, Options, Reasoning, SourceImage
from gateway.tasks.caption import CaptionQuery
from gateway.tasks.classify import ClassifyQuery
from gateway.tasks.detect import DetectQuery
from gateway.tasks.ocr import OCRQuery
from gateway.tasks.vqa import VQAQuery

# They choose who is asked, when, and for how much: whoever answers, answers the same.
OF_THE_CALL = {
    "model",
    "route",
    "priority",
    "max_cost_nano_usd",
    "allow_fallback",
    "local_only",
    "service_tier",
    "urgency",
    "category",
    "cache",
}
IMAGE = SourceImage(b"x", "image/png", 1, 1)
VERSIONS = {rpc: f"gemma4/1/{rpc.lower()}/1" for rpc in tasks.load()}
ASKED = Asked("gemma", "triton", "gemma4", VERSIONS)

words = st.text(max_size=6)
labels = st.lists(words, max_size=3).map(tuple)
# Whatever a protobuf Struct can hold.
json = st.recursive(
    st.none() | st.booleans() | st.floats() | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=5,
)
queries = st.one_of(
    st.builds(CaptionQuery, detail=st.sampled_from(["short", "normal", "long"]), language=words),
    st.builds(OCRQuery, with_regions=st.booleans(), languages=labels),
    st.builds(DetectQuery, labels=labels, prompt=words, max_detections=st.integers(1, 4)),
    st.builds(ClassifyQuery, labels=labels, multi_label=st.booleans(), max_labels=st.integers(1, 4)),
    st.builds(VQAQuery, question=words, answer_schema=st.none() | st.dictionaries(words, json, max_size=3)),
)
options = st.builds(
    Options,
    image_detail=st.none() | st.sampled_from(ImageDetail),
    reasoning=st.sampled_from(Reasoning),
    max_output_tokens=st.none() | st.integers(16, 20),
    temperature=st.none() | st.floats(0, 2),
    seed=st.none() | st.integers(0, 2**63 - 1),
    max_image_tokens=st.none() | st.integers(64, 70),
)
pictures = st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=3)
asked = st.builds(
    Asked,
    model=words,
    backend=words,
    provider_model=words,
    prompt_versions=st.sampled_from([VERSIONS, dict.fromkeys(VERSIONS, "gemma4/2/all/1")]),
)
calls = st.tuples(queries, options, pictures, asked, words)


def key(query, chosen, seen, who, principal):
    return key_of(Ask(query, (IMAGE,), chosen, 0.0, "id"), seen, who, principal=principal)


def told(query, chosen, seen, who, principal):
    """All of a call that may change its answer, as text that tells NaN and -0.0 apart too."""
    answer_options = {name: getattr(chosen, name) for name in ANSWER_OPTIONS}
    # The order of a Struct's fields means nothing.
    return repr(_sorted([query.rpc, asdict(query), answer_options, seen, asdict(who)["model"], who.backend])) + repr(
        [who.provider_model, who.prompt_versions[query.rpc], principal]
    )


def _sorted(value):
    if isinstance(value, dict):
        return {name: _sorted(value[name]) for name in sorted(value)}
    if isinstance(value, (list, tuple)):
        return [_sorted(each) for each in value]
    return repr(value)


@given(calls, calls)
def test_calls_share_a_key_only_when_they_are_equal(one, other):
    assert (key(*one) == key(*other)) == (told(*one) == told(*other))


@given(calls, st.data())
def test_any_one_difference_makes_another_key(call, data):
    at = data.draw(st.integers(0, 4))
    strategies = (queries, options, pictures, asked, words)
    changed = (*call[:at], data.draw(strategies[at]), *call[at + 1 :])

    assert (key(*call) == key(*changed)) == (told(*call) == told(*changed))


@pytest.mark.parametrize("name", sorted(OF_THE_CALL))
def test_who_is_asked_and_when_makes_no_difference(name):
    other = {
        "max_cost_nano_usd": 1,
        "allow_fallback": True,
        "local_only": True,
    }.get(name) or next(
        (value for value in type(getattr(Options(), name)) if value != getattr(Options(), name))
        if name in {"priority", "service_tier", "urgency", "cache"}
        else iter(["other"])
    )
    call = (CaptionQuery("short", ""), Options(), [bytes(32)], ASKED, "")

    assert key(*call) == key(call[0], replace(Options(), **{name: other}), *call[2:])


def test_of_every_option_it_is_settled_whether_it_changes_the_answer():
    assert {each.name for each in fields(Options)} == set(ANSWER_OPTIONS) | OF_THE_CALL
    assert set(ANSWER_OPTIONS) & OF_THE_CALL == set()


def test_the_order_of_pictures_makes_a_difference():
    call = (VQAQuery("what differs?", None), Options())
    one, other = [bytes(32), bytes([1]) * 32], [bytes([1]) * 32, bytes(32)]

    assert key(*call, one, ASKED, "") != key(*call, other, ASKED, "")
