"""Thoughts are told from the answer, wherever the pieces' borders are."""

from __future__ import annotations

import pytest

from gemma4_serving.borders import cut_marker
from gemma4_serving.thoughts import Splitter


def split(pieces):
    splitter = Splitter()
    splits = [*(splitter.push(piece) for piece in pieces), splitter.finish()]
    return "".join(one.answer for one in splits), "".join(one.thoughts for one in splits)


REPLIES = [
    ("a cat<turn|>", "a cat", ""),
    ("<|channel>thought\nfur, so\na cat<channel|>a cat<turn|>", "a cat", "fur, so\na cat"),
    ("<|channel>thought\n<channel|>a cat<turn|><eos>", "a cat", ""),
    ("<|channel>thought\ncut short", "", "cut short"),
    ("the token <turn|> ends a turn", "the token <turn|> ends a turn", ""),
    ("1 < 2 <| 3 <", "1 < 2 <| 3 <", ""),
    ("<|channel>other\nname<channel|>x", "x", "other\nname"),
]


@pytest.mark.parametrize(("written", "answer", "thoughts"), REPLIES)
@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_a_reply_is_split_the_same_whatever_its_pieces(written, answer, thoughts, size):
    pieces = [written[at : at + size] for at in range(0, len(written), size)]

    assert split(pieces) == (answer, thoughts)


def test_text_that_cannot_begin_a_token_is_given_at_once():
    assert Splitter().push("a cat") == ("a cat", "")


def test_text_that_may_begin_a_token_is_kept():
    assert Splitter().push("a cat<|chan") == ("a cat", "")


def test_a_marker_that_is_whole_is_not_cut():
    assert (cut_marker("a<b>", ["<b>"]), cut_marker("a<b", ["<b>"]), cut_marker("a", [])) == (0, 2, 0)
