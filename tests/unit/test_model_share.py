"""How long a model may stream when another one waits behind it, in virtual time, with a stand-in for the backend."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest

from gateway import profiles, tasks
from gateway.backends import Whole
from gateway.domain import Ask, Completion, Options, SentImage, SourceImage
from gateway.errors import DeadlineExceeded
from gateway.model import ProfiledModel
from gateway.tasks.prompt import PromptQuery
from gateway.usage import Usage

PICTURE = SourceImage(b"bytes", "image/jpeg", 640, 427)
WORDS = ("A", " cat", " sits.")


class Paced(Whole):
    """Stands in for a backend that gives each word after a pause; *closed* says that it was told to stop."""

    streams = True

    def __init__(self, first_s, each_s):
        self.pauses = (first_s, each_s, each_s)
        self.timeout_s = None
        self.closed = False

    async def stream(self, prompt, images, *, timeout_s):
        self.timeout_s = timeout_s
        try:
            for pause, word in zip(self.pauses, WORDS, strict=True):
                await asyncio.sleep(pause)
                yield word
            yield Completion("".join(WORDS), Usage(output=3))
        finally:
            self.closed = True


class NothingPrepared:
    """Stands in for the preparer."""

    async def prepare(self, source, plan, *, media_types, timeout_s):
        return SentImage(source.data, source.media_type, plan)


@dataclass
class Reader:
    """Takes text; a sink."""

    pieces: list[str] = field(default_factory=list)

    @property
    def committed(self):
        return bool(self.pieces)

    async def write(self, text):
        self.pieces.append(text)


@pytest.fixture
def ask(virtual_time, virtual_clock):
    """Asks a backend, for which there are two seconds of the ten that the call has."""

    def asked(backend):
        model = ProfiledModel(
            name="m",
            kind="stand-in",
            backend=backend,
            profile=profiles.load("gemma4"),
            tasks=tasks.load(),
            preparer=NothingPrepared(),
            clock=virtual_clock,
        )
        query = PromptQuery(prompt="What is it?", system="", response_schema=None)
        now, reader = virtual_clock(), Reader()
        call = Ask(query, (PICTURE,), Options(), now + 2, "id", sink=reader, until=now + 10)
        return virtual_time.run(model.answer(call))

    return asked


def test_a_model_that_has_begun_may_use_all_the_time_of_the_call(ask):
    backend = Paced(first_s=1.0, each_s=3.0)

    assert ask(backend).response.text == "A cat sits."
    assert backend.timeout_s == pytest.approx(10.0)


def test_a_model_that_has_not_begun_is_stopped_when_its_share_is_up(ask, virtual_clock):
    backend, before = Paced(first_s=5.0, each_s=0.0), virtual_clock()

    with pytest.raises(DeadlineExceeded):
        ask(backend)

    assert (virtual_clock() - before, backend.closed) == (pytest.approx(2.0), True)
