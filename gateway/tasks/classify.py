"""Names what an image shows, freely or from the caller's labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from gateway.domain import ImagePlan, Query
from gateway.errors import UnusableAnswer, Violation
from gateway.profiles import Profile
from gateway.tasks import (
    Task,
    Wording,
    _agreement as agreement,
    _answers as answers,
    _checks as checks,
    _doubts as doubts,
)
from gateway.tasks._doubts import Doubt
from gateway.tasks._labels import ClosedSet
from gateway.tasks._records import score, string, surest_first
from gateway.tasks._wording import label_schema, list_of, quoted
from visiongateway.v1 import vision_service_pb2 as pb

_MOST_LABELS = 500
_MOST_RETURNED = 100
_DEFAULT_MULTI_LABELS = 10
# One label in indented JSON, up to a long one in a language of many tokens.
_TOKENS_PER_LABEL = 64
_TEMPLATE = "{aim} {form}"
# So many labels or more hardly hold all at once; a model that lists them repeats the question.
_MANY = 5
_LIST_KEYS = ("labels", "classes", "categories", "classifications", "predictions", "results")
_LABEL_KEYS = ("label", "class", "class_name", "name", "category")


@dataclass(frozen=True, slots=True)
class ClassifyQuery(Query):
    """Asks for the best of *labels*, or an own word; or with *multi_label* for all that hold; at most *max_labels*."""

    rpc: ClassVar[str] = "Classify"
    labels: tuple[str, ...]
    multi_label: bool
    max_labels: int


@dataclass(frozen=True, slots=True)
class _Label:
    label: str
    score: float | None


class Classify(Task[pb.ClassifyRequest, ClassifyQuery, pb.ClassifyResponse]):
    """Asks for a JSON list of labels. Its template has `{aim}` and `{form}`."""

    rpc = "Classify"
    version = "1"
    request = pb.ClassifyRequest
    response = pb.ClassifyResponse

    def violations(self, request: pb.ClassifyRequest) -> Iterator[Violation]:
        yield from checks.labels(request.labels, _MOST_LABELS, distinct=True)
        if request.HasField("max_labels"):
            yield from checks.at_most("max_labels", request.max_labels, _MOST_RETURNED)

    def query(self, request: pb.ClassifyRequest) -> ClassifyQuery:
        default = _DEFAULT_MULTI_LABELS if request.multi_label else 1
        return ClassifyQuery(
            labels=tuple(request.labels),
            multi_label=request.multi_label,
            max_labels=request.max_labels if request.HasField("max_labels") else default,
        )

    def wording(self, query: ClassifyQuery, profile: Profile, plan: ImagePlan) -> Wording:
        aim, kind = "Classify the image by its main subject.", "each of one to three words"
        if query.labels:
            aim, kind = f"Classify the image by these labels: {quoted(query.labels, profile)}.", "exactly as given"
        form = f'Answer with JSON alone: {{"labels":[{{"label":"..."}}]}} with {_which(query)}, {kind}.'
        return Wording(
            user=profile.wording.get(self.rpc, _TEMPLATE).format(aim=aim, form=form),
            max_output_tokens=128 + _TOKENS_PER_LABEL * query.max_labels,
            schema=list_of("labels", label=label_schema(query.labels)),
        )

    def parse(self, text: str, query: ClassifyQuery, profile: Profile, plan: ImagePlan) -> pb.ClassifyResponse:
        allowed = ClosedSet(query.labels) if query.labels else None
        named = _named(text, allowed)
        found: dict[str, _Label] = {}
        for words, confidence in named:
            label = allowed.find(words) if allowed else words.strip()
            if label:
                found.setdefault(label, _Label(label, confidence))
        # Several labels may hold, or none; but of one that fits best there always is one.
        if not found and (named or not query.multi_label):
            raise answers.unusable("label among those given" if named else "label")
        labels = surest_first(found.values())
        return pb.ClassifyResponse(
            labels=[pb.Label(label=each.label, score=each.score) for each in labels[: query.max_labels]]
        )

    def doubts(self, response: pb.ClassifyResponse, query: ClassifyQuery, category: str) -> Iterator[Doubt]:
        # That none of several labels holds is an answer, and often the right one.
        names = [each.label for each in response.labels]
        if not query.labels:
            yield from (Doubt.EVASIVE_ANSWER for name in names[:1] if doubts.is_evasive(name))
        elif query.multi_label and _MANY <= len(query.labels) == len(names):
            yield Doubt.EVERY_LABEL

    def left_out(self, text: str, response: pb.ClassifyResponse, query: ClassifyQuery) -> Iterator[Doubt]:
        if not query.labels:
            return
        allowed = ClosedSet(query.labels)
        named = {words.strip() for words, _ in _named(text, allowed)}
        if 2 * len({words for words in named if allowed.find(words)}) < len(named):
            yield Doubt.UNKNOWN_LABELS

    def agreement(self, first: pb.ClassifyResponse, second: pb.ClassifyResponse, query: ClassifyQuery) -> float:
        return agreement.of_sets(_names(first, query), _names(second, query))


def _which(query: ClassifyQuery) -> str:
    if query.multi_label:
        return f"every label that applies, best first, at most {query.max_labels}, possibly none"
    if query.max_labels == 1:
        return "the one label that fits best"
    return f"the {query.max_labels} labels that fit best, best first"


def _named(text: str, allowed: ClosedSet | None) -> Sequence[tuple[str, float | None]]:
    """Reads the labels of a JSON answer with their scores, or the one label that a plain answer is."""
    try:
        elements = answers.elements(text, _LIST_KEYS, "labels")
    except UnusableAnswer:
        bare = allowed.find(answers.plain(text).strip("\"'`*. \n")) if allowed else None
        if bare is None:
            raise
        return [(bare, None)]
    named: list[tuple[str, float | None]] = []
    for element in elements:
        record = element if isinstance(element, dict) else {"label": element}
        named.append((string(record, _LABEL_KEYS) or "", score(record)))
    return named


def _names(response: pb.ClassifyResponse, query: ClassifyQuery) -> set[str]:
    """Gives the labels, which differ in case only where the caller's own do."""
    return {each.label if query.labels else each.label.casefold() for each in response.labels}


TASK = Classify()
