"""Describes an image in words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from gateway.domain import ImagePlan, Query
from gateway.errors import Violation
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
from visiongateway.v1 import vision_service_pb2 as pb

_DETAILS = {
    pb.CAPTION_DETAIL_UNSPECIFIED: "normal",
    pb.CAPTION_DETAIL_NORMAL: "normal",
    pb.CAPTION_DETAIL_SHORT: "short",
    pb.CAPTION_DETAIL_LONG: "long",
}
_LENGTHS = {"short": "a short phrase", "normal": "one or two sentences", "long": "one detailed paragraph"}
# Several times what the length asked for takes in English, for languages that take more tokens a word.
_MAX_OUTPUT_TOKENS = {"short": 128, "normal": 256, "long": 1024}
_TEMPLATE = "Describe the image in {length}{language}. Answer with the description alone, in plain text."
_KEYS = ("text", "caption", "description")
_QUOTES = ('""', "\u201c\u201d")


@dataclass(frozen=True, slots=True)
class CaptionQuery(Query):
    """Asks for a description; *detail* is `short`, `normal` or `long`, *language* a BCP 47 tag or empty for English."""

    rpc: ClassVar[str] = "Caption"
    detail: str
    language: str


class Caption(Task[pb.CaptionRequest, CaptionQuery, pb.CaptionResponse]):
    """Asks for a description alone. Its template has `{length}` and `{language}`."""

    rpc = "Caption"
    version = "1"
    request = pb.CaptionRequest
    response = pb.CaptionResponse

    def violations(self, request: pb.CaptionRequest) -> Iterator[Violation]:
        if request.detail not in _DETAILS:
            yield Violation("detail", f"is {request.detail}, which is no CaptionDetail")
        if request.language:
            yield from checks.language("language", request.language)

    def query(self, request: pb.CaptionRequest) -> CaptionQuery:
        return CaptionQuery(detail=_DETAILS[request.detail], language=request.language)

    def wording(self, query: CaptionQuery, profile: Profile, plan: ImagePlan) -> Wording:
        template = profile.wording.get(self.rpc, _TEMPLATE)
        return Wording(
            user=template.format(
                length=_LENGTHS[query.detail],
                language=f', in the language "{query.language}" (BCP 47)' if query.language else "",
            ),
            max_output_tokens=_MAX_OUTPUT_TOKENS[query.detail],
        )

    def streams(self, query: CaptionQuery) -> bool:
        return True

    def text(self, response: pb.CaptionResponse) -> str:
        return response.text

    def parse(self, text: str, query: CaptionQuery, profile: Profile, plan: ImagePlan) -> pb.CaptionResponse:
        caption = _unquoted(answers.unwrapped(text, _KEYS))
        if not caption:
            raise answers.unusable("description")
        return pb.CaptionResponse(text=caption)

    def doubts(self, response: pb.CaptionResponse, query: CaptionQuery, category: str) -> Iterator[Doubt]:
        yield from doubts.of_text(response.text)

    def agreement(self, first: pb.CaptionResponse, second: pb.CaptionResponse, query: CaptionQuery) -> float:
        return agreement.of_words(first.text, second.text)


def _unquoted(text: str) -> str:
    quotes = text[:1] + text[-1:]
    inner = text[1:-1]
    return inner.strip() if quotes in _QUOTES and not set(quotes) & set(inner) else text


TASK = Caption()
