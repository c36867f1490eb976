"""Composes sentences from what was detected, classified and read. Nothing is added that a network did not say."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from cpu_vision.coco import plural

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cpu_vision.classify import ClassScore
    from cpu_vision.detect import Detection
    from cpu_vision.ocr import Line

MARK = "(Composed from detected objects, classes and text.)"
NOTHING = "Nothing was recognised with enough confidence."

# On photographs, classes below this are wrong as often as right.
_SURE_CLASS = 0.4
# Text that is not there, seen in folds and shadows, stays below this.
_SURE_TEXT = 0.9
_MAX_TEXT = {"normal": 200, "long": 1000}
# They are spoken of without an article.
_NO_ARTICLE = frozenset({"broccoli", "scissors", "skis"})


def short(detections: Sequence[Detection], classes: Sequence[ClassScore]) -> str:
    """Names the objects, or else the likeliest class; empty when there is neither."""
    if detections:
        phrase = _objects(detections)
        return f"{phrase[0].upper()}{phrase[1:]}."
    return _likeliest(classes)


def full(detail: str, detections: Sequence[Detection], classes: Sequence[ClassScore], lines: Sequence[Line]) -> str:
    """Says all that is known in one or a few sentences; *detail* `long` adds scores and more of the text."""
    sentences = []
    if detections:
        named = _scored(detections) if detail == "long" else _objects(detections)
        sentences.append(f"The picture shows {named}.")
    sentences.append(_likeliest(classes))
    if text := " ".join(line.text for line in lines if _is_sure(line)):
        limit = _MAX_TEXT[detail]
        sentences.append(f'It contains the text "{text if len(text) <= limit else text[: limit - 1] + "…"}".')
    return " ".join(filter(None, sentences))


def marked(text: str) -> str:
    """Ends a caption with the words that say how it came about."""
    return f"{text or NOTHING} {MARK}"


def amount(count: int, name: str) -> str:
    """Counts objects of a class: `1 cup`, `2 cups`."""
    return f"{count} {name if count == 1 else plural(name)}"


def _objects(detections: Sequence[Detection]) -> str:
    counts = Counter(found.name for found in detections)
    return _listed([_article(name) if count == 1 else amount(count, name) for name, count in counts.items()])


def _scored(detections: Sequence[Detection]) -> str:
    return _listed([f"{_article(found.name)} ({found.score:.0%})" for found in detections])


def _article(name: str) -> str:
    if name in _NO_ARTICLE:
        return name
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def _listed(phrases: list[str]) -> str:
    *head, last = phrases
    return f"{', '.join(head)} and {last}" if head else last


def _likeliest(classes: Sequence[ClassScore]) -> str:
    if not classes or classes[0].score < _SURE_CLASS:
        return ""
    return f"Likeliest class: {classes[0].name} ({classes[0].score:.0%})."


def _is_sure(line: Line) -> bool:
    # A lone character is more often a wheel or a cup than a letter.
    return line.score >= _SURE_TEXT and sum(character.isalnum() for character in line.text) > 1
