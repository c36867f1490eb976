"""Answers the questions of the closed families."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cpu_vision import caption, questions

if TYPE_CHECKING:
    from cpu_vision.look import Look


def answer(question: questions.Question, look: Look) -> str:  # noqa: PLR0911 - one for each family
    """Answers from what the networks see; counts are of what was found, which in a crowd is not all."""
    match question:
        case questions.HowMany(name):
            return f"{caption.amount(_count(look, name), name)} found."
        case questions.IsThere(name):
            count = _count(look, name)
            return f"Yes, {caption.amount(count, name)} found." if count else f"No {name} found."
        case questions.IsThereText():
            count = len(look.lines)
            return f"Yes, {count} line{'' if count == 1 else 's'} of text found." if count else "No text found."
        case questions.WhatDoesItSay():
            return "\n".join(line.text for line in look.lines) or "No text found."
        case questions.DoesItContain(words):
            return _contains(look, words)
        case questions.WhatIsIt():
            return caption.full("normal", look.detections, look.classes, ()) or caption.NOTHING
        case questions.WhatSize(side):
            return _size(look, side)


def _count(look: Look, name: str) -> int:
    return sum(found.name == name for found in look.detections)


def _contains(look: Look, words: str) -> str:
    sought = " ".join(words.casefold().split())
    lines = [line.text for line in look.lines]
    for line in lines:
        if sought in " ".join(line.casefold().split()):
            return f'Yes, in the line "{line}".'
    # Words may run over the end of a line.
    if sought in " ".join(" ".join(lines).casefold().split()):
        return "Yes, across lines."
    return "No, none of the text that was read contains it."


def _size(look: Look, side: str) -> str:
    picture = look.picture
    told = {"width": f"{picture.width_px} pixels wide", "height": f"{picture.height_px} pixels high"}
    return f"The picture that reached the model is {told.get(side) or ' and '.join(told.values())}."
