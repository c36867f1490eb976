"""Answers a question about one or several images."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from google.protobuf import json_format

from gateway.domain import ImagePlan, JsonSchema, Query
from gateway.errors import Violation
from gateway.profiles import Profile
from gateway.tasks import (
    Task,
    Wording,
    _agreement as agreement,
    _answer_schema as answer_schema,
    _answers as answers,
    _checks as checks,
    _doubts as doubts,
    _images as images,
)
from gateway.tasks._doubts import Doubt
from gateway.tasks._questions import Sort, sort_of
from gateway.tasks._strict_schema import strict
from gateway.tasks._structured import structured
from gateway.tasks._words import words
from visiongateway.v1 import image_pb2, vision_service_pb2 as pb

_QUESTION_CHARACTERS = 8000
# Answers to the prompts of Roboflow's comparison are 138 to 214 tokens at the median.
_MAX_OUTPUT_TOKENS = 1024
_MAX_OUTPUT_TOKENS_WITH_SCHEMA = 4096
_TEMPLATE = "Answer the question about what is shown {form}."
_KEYS = ("answer",)
_MISSING = {Sort.NUMBER: Doubt.NO_NUMBER, Sort.POLAR: Doubt.NO_YES_OR_NO}


@dataclass(frozen=True, slots=True)
class VQAQuery(Query):
    """Asks *question*; *answer_schema*, written out without references, is what the answer must satisfy."""

    rpc: ClassVar[str] = "VQA"
    question: str
    answer_schema: JsonSchema | None


class VQA(Task[pb.VQARequest, VQAQuery, pb.VQAResponse]):
    """Asks the question as it stands, the instruction apart from it. Its template has `{form}`."""

    rpc = "VQA"
    version = "1"
    request = pb.VQARequest
    response = pb.VQAResponse

    def violations(self, request: pb.VQARequest) -> Iterator[Violation]:
        if not request.question.strip():
            yield Violation("question", "is empty")
        yield from checks.text("question", request.question, _QUESTION_CHARACTERS)
        yield from images.violations(request)
        if request.HasField("answer_schema"):
            yield from answer_schema.violations("answer_schema", request.answer_schema)

    def query(self, request: pb.VQARequest) -> VQAQuery:
        schema = answer_schema.written_out(request.answer_schema) if request.HasField("answer_schema") else None
        return VQAQuery(question=request.question.strip(), answer_schema=schema)

    def wording(self, query: VQAQuery, profile: Profile, plan: ImagePlan) -> Wording:
        form, schema = "correctly and briefly, in plain text", None
        if query.answer_schema is not None:
            schema = strict(query.answer_schema)
            form = "correctly, with JSON of the schema given"
            if schema is None or not profile.shows_schema:
                written = json.dumps(query.answer_schema, ensure_ascii=False, separators=(",", ":"))
                form = f"correctly, with JSON alone, of this JSON Schema: {profile.escape(written)}"
        return Wording(
            system=profile.wording.get(self.rpc, _TEMPLATE).format(form=form),
            user=profile.escape(query.question),
            max_output_tokens=_MAX_OUTPUT_TOKENS if query.answer_schema is None else _MAX_OUTPUT_TOKENS_WITH_SCHEMA,
            schema=schema,
        )

    def streams(self, query: VQAQuery) -> bool:
        return True

    def text(self, response: pb.VQAResponse) -> str:
        return response.answer

    def parse(self, text: str, query: VQAQuery, profile: Profile, plan: ImagePlan) -> pb.VQAResponse:
        if query.answer_schema is None:
            answer = answers.unwrapped(text, _KEYS) if profile.takes_query else answers.plain(text)
            if not answer:
                raise answers.unusable("answer")
            return pb.VQAResponse(answer=answer)
        found = structured(text, query.answer_schema)
        if found is None:
            raise answers.unusable("object of the schema given")
        answer, struct = found
        return pb.VQAResponse(answer=answer, structured_answer=struct)

    def doubts(self, response: pb.VQAResponse, query: VQAQuery, category: str) -> Iterator[Doubt]:
        if query.answer_schema is not None:
            if doubts.is_empty(json_format.MessageToDict(response.structured_answer)):
                yield Doubt.EMPTY_FIELDS
            return
        yield from doubts.of_text(response.answer)
        sort = sort_of(query.question)
        if sort in _MISSING and not sort.said(words(response.answer)):
            yield _MISSING[sort]

    def combines(self, query: VQAQuery) -> bool:
        # A schema of the caller's stands alone: its references are to its own root.
        return query.answer_schema is None

    def agreement(self, first: pb.VQAResponse, second: pb.VQAResponse, query: VQAQuery) -> float:
        if query.answer_schema is not None:
            return agreement.of_fields(*(json_format.MessageToDict(each.structured_answer) for each in (first, second)))
        return agreement.of_replies(first.answer, second.answer, sort_of(query.question))

    def images(self, request: pb.VQARequest) -> list[tuple[str, image_pb2.Image]]:
        return images.listed(request)


TASK = VQA()
