"""A model behind its profile whose answers come in pieces, with a stand-in for the backend that has them ready."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import pytest

from gateway import profiles, tasks
from gateway.backends import Whole
from gateway.domain import Ask, Completion, Options, SentImage, SourceImage
from gateway.errors import BackendUnavailable, BrokenOff
from gateway.model import ProfiledModel
from gateway.tasks.prompt import PromptQuery
from gateway.usage import Usage

PICTURE = SourceImage(b"bytes", "image/jpeg", 640, 427)
THOUGHT = "<|channel>thought\nIs it a cat?<channel|>"


class Pieces(Whole):
    """Stands in for a backend that streams; an error among the pieces is raised."""

    streams = True

    def __init__(self, *pieces, ends=True):
        self._pieces = pieces
        self._ends = ends

    async def stream(self, prompt, images, *, timeout_s):
        for piece in self._pieces:
            if isinstance(piece, Exception):
                raise piece
            yield piece
        if self._ends:
            yield Completion("".join(self._pieces), Usage(output=len(self._pieces)))


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


async def read(*pieces, ends=True):
    """Gives the pieces that reach the caller, and the answer or the failure."""
    model = ProfiledModel(
        name="m",
        kind="stand-in",
        backend=Pieces(*pieces, ends=ends),
        profile=profiles.load("gemma4"),
        tasks=tasks.load(),
        preparer=NothingPrepared(),
        clock=time.monotonic,
    )
    query = PromptQuery(prompt="What is it?", system="", response_schema=None)
    reader = Reader()
    try:
        answer = await model.answer(Ask(query, (PICTURE,), Options(), time.monotonic() + 100, "id", sink=reader))
    except (BackendUnavailable, BrokenOff) as exc:
        return reader.pieces, exc
    return reader.pieces, answer.response.text


@pytest.mark.parametrize(
    ("written", "handed"),
    [
        (["A ", "cat ", "sits."], ["A", " cat", " sits."]),
        ([" \n", "\n A cat", ".\n", "\n"], ["A cat", "."]),
        (["Lines:\n", "one\n", "two"], ["Lines:", "\none", "\ntwo"]),
        ([THOUGHT[:9], THOUGHT[9:20], THOUGHT[20:], "A cat."], ["A cat."]),
        (["Fewer: 3 ", "<", " 5"], ["Fewer: 3", " < 5"]),
        (["x <y"], ["x", " <y"]),
        (["A cat.", "<turn|>", "\nuser"], ["A cat."]),
    ],
)
async def test_what_is_handed_over_makes_up_the_answer_to_the_letter(written, handed):
    pieces, text = await read(*written)

    assert pieces == handed
    assert "".join(pieces) == text


async def test_nothing_but_white_space_and_thoughts_commits_nothing():
    pieces, failed = await read(" \n", THOUGHT, "\n", BackendUnavailable("it broke"))

    assert (pieces, failed.elsewhere) == ([], True)


async def test_a_failure_after_words_is_no_other_models_business():
    pieces, failed = await read("A ", BackendUnavailable("it broke"))

    assert (pieces, failed.elsewhere) == (["A"], False)


async def test_without_an_end_another_model_may_answer_until_the_first_word():
    pieces, failed = await read(" \n", THOUGHT, ends=False)

    assert (pieces, type(failed), failed.elsewhere) == ([], BrokenOff, True)


async def test_pieces_without_an_end_are_no_answer():
    pieces, failed = await read("A ", "cat", ends=False)

    assert (pieces, type(failed), failed.elsewhere) == (["A", " cat"], BrokenOff, False)
