"""The RPCs: from a query, which is the JSON of the gateway's own, to the answer's JSON.

Boxes and polygons are fractions of the upright picture.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from cpu_vision import caption, ocr, questions, vqa
from cpu_vision.coco import class_of
from cpu_vision.outcomes import InvalidRequestError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from cpu_vision.look import Look

Query: TypeAlias = "Mapping[str, Any]"
T = TypeVar("T")

# Cosines below it are those of words that have nothing to do with a picture, such as "happy" for a cat.
_MIN_COSINE = 0.3
# Where several labels may hold: those near the picture, or classes that are more than a remote chance.
_HOLDS_COSINE = 0.5
_HOLDS_SCORE = 0.1


def answer(query: Query, look: Callable[[], Look], image_count: int) -> dict[str, Any]:
    """Answers a query; *look* is called once it is clear that the query can be answered.

    Raises `UnsupportedError` for what the model cannot do, `InvalidRequestError` for a query that is not well formed.
    """
    rpc = _field(query, "rpc", str, "")
    if rpc not in _RPCS:
        raise UnsupportedError("rpc", f"The embedded model does {', '.join(_RPCS)}, and nothing else.")
    if image_count > 1:
        raise UnsupportedError("images", f"The embedded model takes one image, not {image_count}.")
    return _RPCS[rpc](query, look)


def _caption(query: Query, look: Callable[[], Look]) -> dict[str, Any]:
    language = _field(query, "language", str, "")
    if language and _primary(language) != "en":
        raise UnsupportedError("language", f'The embedded model describes in English only, not in "{language[:35]}".')
    seen = look()
    if query.get("detail") == "short":
        return {"text": caption.marked(caption.short(seen.detections, seen.classes))}
    detail = "long" if query.get("detail") == "long" else "normal"
    return {"text": caption.marked(caption.full(detail, seen.detections, seen.classes, seen.lines))}


def _ocr(query: Query, look: Callable[[], Look]) -> dict[str, Any]:
    strange = [tag for tag in _strings(query, "languages") if _primary(tag) not in ocr.LANGUAGES]
    if strange:
        raise UnsupportedError(
            "language",
            f"The embedded model does not read {_named(strange)}: it reads Chinese, Japanese, and languages in Latin "
            "script.",
        )
    seen = look()
    height, width = seen.picture.pixels.shape[:2]
    return {
        "lines": [
            {
                "text": line.text,
                "polygon": [[_unit(x / width), _unit(y / height)] for x, y in line.polygon],
                "score": _unit(line.score),
            }
            for line in seen.lines
        ]
    }


def _detect(query: Query, look: Callable[[], Look]) -> dict[str, Any]:
    if _field(query, "prompt", str, ""):
        raise UnsupportedError("prompt", "The embedded model finds objects by labels alone; it cannot heed a prompt.")
    labels = _strings(query, "labels")
    if strange := [label for label in labels if class_of(label) is None]:
        raise UnsupportedError(
            "labels",
            f"The embedded model cannot look for {_named(strange)}: it knows only the 80 object classes of COCO.",
        )
    limit = _field(query, "max_detections", int, 100)
    # Two labels may mean one class; its objects go by the first.
    called = {class_of(label): label for label in reversed(labels)}
    return {
        "detections": [
            {
                "label": called.get(found.name, found.name),
                "box_2d": [_unit(corner) for corner in found.box],
                "score": _unit(found.score),
            }
            for found in look().detections
            if not called or found.name in called
        ][:limit]
    }


def _classify(query: Query, look: Callable[[], Look]) -> dict[str, Any]:
    labels = _strings(query, "labels")
    several = _field(query, "multi_label", bool, default=False)
    limit = _field(query, "max_labels", int, 10 if several else 1)
    seen = look()
    if labels:
        best, *others = [(ranked.label, ranked.cosine) for ranked in seen.rank(labels)]
        if best[1] < _MIN_COSINE:
            raise UnsupportedError(
                "labels",
                f"The embedded model cannot choose: it knows what a picture shows (here, likeliest, "
                f"{seen.classes[0].name}), and no label is near that.",
            )
        floor = _HOLDS_COSINE
    else:
        best, *others = [(found.name, found.score) for found in seen.classes]
        floor = _HOLDS_SCORE
    held = [best, *(other for other in others if not several or other[1] >= floor)][:limit]
    return {"labels": [{"label": label, "score": _unit(score)} for label, score in held]}


def _vqa(query: Query, look: Callable[[], Look]) -> dict[str, Any]:
    if query.get("answer_schema") is not None:
        raise UnsupportedError("schema", "The embedded model answers in plain text, not by a schema.")
    question = questions.understand(_field(query, "question", str, ""))
    return {"answer": vqa.answer(question, look())}


def _prompt(query: Query, look: Callable[[], Look]) -> dict[str, Any]:
    if query.get("response_schema") is not None:
        raise UnsupportedError("schema", "The embedded model answers in plain text, not by a schema.")
    if _field(query, "system", str, ""):
        raise UnsupportedError("system", "The embedded model follows no instructions, so it can heed no system text.")
    question = questions.understand(_field(query, "prompt", str, ""))
    return {"text": vqa.answer(question, look())}


_RPCS = {
    "Caption": _caption,
    "OCR": _ocr,
    "Detect": _detect,
    "Classify": _classify,
    "VQA": _vqa,
    "Prompt": _prompt,
}
NAMES = tuple(_RPCS)


def _field(query: Query, name: str, kind: type[T], default: T) -> T:
    value = query.get(name, default)
    if value is None:
        return default
    if not isinstance(value, kind):
        raise InvalidRequestError(f"{name} of the query is not of type {kind.__name__}")
    return value


def _strings(query: Query, name: str) -> list[str]:
    values = _field(query, name, list, [])
    if not all(isinstance(value, str) for value in values):
        raise InvalidRequestError(f"{name} of the query holds something that is not text")
    return values


def _primary(tag: str) -> str:
    return tag.replace("_", "-").split("-")[0].lower()


def _named(words: Sequence[str]) -> str:
    shown = ", ".join(f'"{word[:60]}"' for word in words[:5])
    return shown if len(words) <= len(words[:5]) else f"{shown} and {len(words) - 5} more"


def _unit(value: float) -> float:
    return min(max(round(float(value), 5), 0.0), 1.0)
