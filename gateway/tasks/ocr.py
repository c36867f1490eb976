"""Reads the text in an image."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import ClassVar

from gateway.domain import ImagePlan, Query
from gateway.errors import Violation
from gateway.profiles import Profile
from gateway.tasks import Task, Wording, _answers as answers, _checks as checks, _doubts as doubts
from gateway.tasks._distance import similarity
from gateway.tasks._doubts import Doubt
from gateway.tasks._outlines import Outline, outline
from gateway.tasks._records import score, string
from gateway.tasks._wording import box_schema, list_of, quoted
from visiongateway.v1 import geometry_pb2, vision_service_pb2 as pb

_MOST_LANGUAGES = 8
# A page of dense print is about 2,000 tokens, and under three times that with its boxes.
_MAX_OUTPUT_TOKENS = 4096
_MAX_OUTPUT_TOKENS_WITH_REGIONS = 8192
# What a model is told to write for a picture without text: told to write nothing, it would explain that there is none.
_NO_TEXT = "NO_TEXT"
_TEMPLATE = (
    "Read all text in the image in reading order, as it stands: correct and translate nothing.{languages} {form}"
)
_DOCUMENT = "document"
_OF_IMAGE = re.compile(r"\b(?:image|picture|photo|text|read)\b", re.IGNORECASE)
_LINES_KEYS = ("lines", "text_lines", "texts", "results")
_TEXT_KEYS = ("text", "content", "transcription", "label")


@dataclass(frozen=True, slots=True)
class OCRQuery(Query):
    """Asks for the text, line by line with outlines if *with_regions*; *languages* are BCP 47 tags to expect."""

    rpc: ClassVar[str] = "OCR"
    with_regions: bool
    languages: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Line:
    text: str
    outline: Outline | None
    score: float | None


class OCR(Task[pb.OCRRequest, OCRQuery, pb.OCRResponse]):
    """Asks for plain text, or for JSON if lines are to have outlines. Its template has `{languages}` and `{form}`."""

    rpc = "OCR"
    version = "1"
    request = pb.OCRRequest
    response = pb.OCRResponse

    def violations(self, request: pb.OCRRequest) -> Iterator[Violation]:
        if len(request.languages) > _MOST_LANGUAGES:
            yield Violation("languages", f"has {len(request.languages)} tags; at most {_MOST_LANGUAGES} are allowed")
        for index, tag in enumerate(islice(request.languages, _MOST_LANGUAGES)):
            yield from checks.language(f"languages[{index}]", tag)

    def query(self, request: pb.OCRRequest) -> OCRQuery:
        return OCRQuery(with_regions=request.with_regions, languages=tuple(request.languages))

    def wording(self, query: OCRQuery, profile: Profile, plan: ImagePlan) -> Wording:
        if query.with_regions:
            form = (
                f'Answer with JSON alone: {{"lines":[{{"text":"...","box_2d":{profile.boxes.corners}}}]}}, one entry '
                f'per line of text, boxes in {profile.boxes.unit(plan)}; if there is no text, {{"lines":[]}}.'
            )
        else:
            form = (
                "Keep its line breaks. Answer with the text alone, without comments or code fences; "
                f"if there is none, with {_NO_TEXT}."
            )
        expected = quoted(query.languages, profile)
        return Wording(
            user=profile.wording.get(self.rpc, _TEMPLATE).format(
                languages=f" Expect the languages {expected}." if query.languages else "", form=form
            ),
            max_output_tokens=_MAX_OUTPUT_TOKENS_WITH_REGIONS if query.with_regions else _MAX_OUTPUT_TOKENS,
            schema=list_of("lines", text={"type": "string"}, box_2d=box_schema(profile))
            if query.with_regions
            else None,
        )

    def streams(self, query: OCRQuery) -> bool:
        return not query.with_regions

    def text(self, response: pb.OCRResponse) -> str:
        return response.text

    def parse(self, text: str, query: OCRQuery, profile: Profile, plan: ImagePlan) -> pb.OCRResponse:
        if not query.with_regions and not profile.takes_query:
            return self._parse_plain(text)
        lines = _lines(text, profile, plan)
        if not query.with_regions:
            return pb.OCRResponse(text="\n".join(line.text for line in lines))
        if lines and not any(line.outline for line in lines):
            raise answers.unusable("outlines of lines")
        return pb.OCRResponse(text="\n".join(line.text for line in lines), lines=map(_message, lines))

    def doubts(self, response: pb.OCRResponse, query: OCRQuery, category: str) -> Iterator[Doubt]:
        # Most pictures without text are known as such by nobody before they are read: that there is none is doubtful
        # only where the caller expects some. Pixels would tell more, but decoding them costs every call its time.
        if not response.text.strip():
            if query.with_regions or query.languages or category.casefold() == _DOCUMENT:
                yield Doubt.EMPTY_TEXT
            return
        for doubt in doubts.of_text(response.text):
            # A sign may well say "Sorry"; a model speaks of the image, in one line.
            is_read = "\n" in response.text or not _OF_IMAGE.search(response.text)
            if doubt is not Doubt.EVASIVE_ANSWER or not is_read:
                yield doubt

    def agreement(self, first: pb.OCRResponse, second: pb.OCRResponse, query: OCRQuery) -> float:
        return similarity(first.text, second.text)

    def _parse_plain(self, text: str) -> pb.OCRResponse:
        read = answers.plain(text)
        if not read:
            raise answers.unusable("text")
        return pb.OCRResponse(text="" if read.strip("\"'`*. ") == _NO_TEXT else read)


def _lines(text: str, profile: Profile, plan: ImagePlan) -> list[_Line]:
    """Reads the lines of a JSON answer; one whose outline is of no use is still text, and is kept."""
    records = answers.elements(text, _LINES_KEYS, "lines")
    lines: dict[object, _Line] = {}
    for record in records:
        if not isinstance(record, dict):
            continue
        words = string(record, _TEXT_KEYS)
        if words is None or not words.strip():
            continue
        line = _Line(words.strip("\n"), outline(record, profile, plan), score(record))
        # A model that repeats itself gives the same line at the same place; the same words elsewhere are another line.
        lines.setdefault((line.text, line.outline) if line.outline else len(lines), line)
    if records and not lines:
        raise answers.unusable("lines")
    return list(lines.values())


def _message(line: _Line) -> pb.TextLine:
    points = [geometry_pb2.Point(x=x, y=y) for x, y in line.outline or ()]
    return pb.TextLine(
        text=line.text,
        polygon=geometry_pb2.Polygon(points=points) if points else None,
        score=line.score,
    )


TASK = OCR()
