"""A model behind its profile, with the scripted backend behind it and a stand-in that prepares no pixels."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from gateway import profiles, tasks
from gateway.backends import fake
from gateway.domain import Ask, Options, Reasoning, SentImage, ServiceTier, SourceImage
from gateway.errors import DeadlineTooShort, InvalidImage, Overloaded, UnsupportedByModel, UnusableAnswer
from gateway.model import ProfiledModel
from gateway.tasks.caption import CaptionQuery
from gateway.tasks.detect import DetectQuery

PHOTOGRAPH = SourceImage(b"bytes", "image/jpeg", 640, 427)
CAPTION = CaptionQuery(detail="normal", language="")
DETECT = DetectQuery(labels=("cat",), prompt="", max_detections=100)
NOW = 1000.0


class FakeClock:
    """A clock that moves only when told."""

    now = NOW

    def __call__(self):
        return self.now

    async def sleep(self, seconds):
        self.now += seconds


class NothingPrepared:
    """Stands in for the preparer: fails the first images as told, and passes every other one through."""

    def __init__(self, clock, failures, takes_s):
        self.timeouts_s = []
        self._clock = clock
        self._failures = list(failures)
        self._takes_s = takes_s

    async def prepare(self, source, plan, *, media_types, timeout_s):
        self.timeouts_s.append(timeout_s)
        await self._clock.sleep(self._takes_s)
        if self._failures:
            raise self._failures.pop(0)
        return SentImage(source.data, source.media_type, plan)


@pytest.fixture
async def model():
    opened = []

    async def make(family, *, unprepared=(), image_takes_s=0.0, **script):
        clock = FakeClock()
        preparer = NothingPrepared(clock, unprepared, image_takes_s)
        context = fake.connect(fake.Options(**script), sleep=clock.sleep)
        backend = await context.__aenter__()
        opened.append(context)
        made = ProfiledModel(
            name="m",
            kind="fake",
            backend=backend,
            profile=profiles.load(family),
            tasks=tasks.load(),
            preparer=preparer,
            clock=clock,
        )
        return SimpleNamespace(answer=made.answer, calls=backend.calls, preparer=preparer)

    yield make
    for context in opened:
        await context.__aexit__(None, None, None)


def ask(query=CAPTION, *, images=1, seconds=10.0, **options):
    return Ask(query, (PHOTOGRAPH,) * images, Options(**options), NOW + seconds, "id")


async def test_an_answer_names_the_model_and_the_version_of_its_words(model):
    answer = await (await model("gemma4", answer="A cat.")).answer(ask())

    assert (answer.response.text, answer.model, answer.backend) == ("A cat.", "m", "fake")
    assert answer.prompt_version == "gemma4/1/caption/1"


async def test_the_embedded_family_gets_the_query_itself(model):
    asked = await model("embedded", answers={"Detect": '{"detections": []}'})

    await asked.answer(ask(DETECT))

    assert json.loads(asked.calls[-1].prompt.user) == {
        "rpc": "Detect",
        "labels": ["cat"],
        "prompt": "",
        "max_detections": 100,
    }


async def test_an_answer_that_cannot_be_used_was_billed_all_the_same(model):
    asked = await model("gpt55", answer="I see no such thing.", output_tokens=7)

    with pytest.raises(UnusableAnswer) as caught:
        await asked.answer(ask(DETECT))

    assert (caught.value.usage.output, caught.value.usage.input_image) == (7, 336)


async def test_more_images_than_the_family_takes_are_refused_before_anything_is_asked(model):
    asked = await model("embedded")

    with pytest.raises(UnsupportedByModel, match=r"at most 1 image\(s\); 2 were sent"):
        await asked.answer(ask(images=2))

    assert not asked.calls


async def test_with_no_time_left_nothing_is_asked(model):
    asked = await model("gemma4")

    with pytest.raises(DeadlineTooShort):
        await asked.answer(ask(seconds=0.01))

    assert not asked.calls


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, 256),
        ({"max_output_tokens": 40}, 40),
        ({"reasoning": Reasoning.LOW}, 256 + 2048),
        ({"reasoning": Reasoning.HIGH, "max_output_tokens": 40}, 40),
    ],
)
async def test_thoughts_get_room_unless_the_caller_bounds_them(model, options, expected):
    asked = await model("gemma4")

    await asked.answer(ask(**options))

    assert asked.calls[-1].prompt.max_output_tokens == expected


@pytest.mark.parametrize(("family", "temperature", "top_k"), [("gemma4", 0.3, None), ("gpt55", None, None)])
async def test_a_temperature_reaches_only_a_family_that_takes_one(model, family, temperature, top_k):
    asked = await model(family, answers={"Detect": '{"detections": []}'})

    await asked.answer(ask(DETECT, temperature=0.3))

    prompt = asked.calls[-1].prompt
    assert (prompt.temperature, prompt.top_k) == (temperature, top_k)


async def test_an_answer_that_cannot_be_used_is_billed_at_the_tier_that_served_it(model):
    asked = await model("gpt55", answer="I see no such thing.")

    with pytest.raises(UnusableAnswer) as caught:
        await asked.answer(ask(DETECT, service_tier=ServiceTier.FLEX))

    assert (caught.value.service_tier, caught.value.provider_model) == ("flex", "scripted")


@pytest.mark.parametrize(
    "ends",
    [
        [InvalidImage("damaged", limit="decode", field="images[1]")],
        [InvalidImage("damaged", limit="decode", field="images[1]"), Overloaded("too many images wait")],
        [InvalidImage("damaged", limit="decode", field="images[1]"), ValueError("a bug")],
        [ValueError("a bug")],
    ],
    ids=lambda ends: "+".join(type(end).__name__ for end in ends),
)
async def test_one_of_several_images_that_cannot_be_prepared_ends_the_call_as_it_would_alone(model, ends):
    asked = await model("gemma4", unprepared=ends)

    with pytest.raises(type(ends[0])) as caught:
        await asked.answer(ask(images=len(ends) + 1))

    assert caught.value is ends[0]
    assert not asked.calls


async def test_images_are_prepared_within_the_call_s_deadline_and_their_time_is_told_apart(model):
    asked = await model("gemma4", image_takes_s=2.0, delay_s=3.0)
    a_call = ask(seconds=10.0)

    await asked.answer(a_call)

    assert asked.preparer.timeouts_s == [10.0]
    assert (a_call.trace.image_s, a_call.trace.upstream_s) == (2.0, 3.0)
    assert asked.calls[-1].timeout_s == 8.0


async def test_thoughts_never_get_more_room_than_a_call_may_ask_for(model):
    asked = await model("gemma4", answers={"Detect": '{"detections": []}'})
    many = DetectQuery(labels=("cat",), prompt="", max_detections=1000)

    await asked.answer(ask(many, reasoning=Reasoning.HIGH))

    assert asked.calls[-1].prompt.max_output_tokens == 32_768


async def test_what_is_read_is_estimated_before_a_model_is_asked(model):
    asked = await model("gemma4")
    call, late = ask(), ask(seconds=0.01)

    await asked.answer(call)
    with pytest.raises(DeadlineTooShort):
        await asked.answer(late)

    prompt, [sent] = asked.calls[0].prompt, asked.calls[0].images
    text = len(f"{prompt.system}{prompt.user}".encode())
    assert (call.trace.asked.input_text, call.trace.asked.input_image) == (-(-text // 4), sent.plan.token_count)
    assert (call.trace.asked.output_total, late.trace.asked) == (0, None)
