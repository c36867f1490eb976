"""Follows an open prompt about one or several images."""

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
from gateway.tasks._strict_schema import strict
from gateway.tasks._structured import structured
from visiongateway.v1 import image_pb2, vision_service_pb2 as pb

_PROMPT_CHARACTERS = 32_000
_SYSTEM_CHARACTERS = 8_000
# A page of prose; who wants more says so.
_MAX_OUTPUT_TOKENS = 4096
_KEYS = ("text", "answer")


@dataclass(frozen=True, slots=True)
class PromptQuery(Query):
    """Asks for whatever *prompt* says, under the rules of *system*; *response_schema* is as that of a question."""

    rpc: ClassVar[str] = "Prompt"
    prompt: str
    system: str
    response_schema: JsonSchema | None


class Prompt(Task[pb.PromptRequest, PromptQuery, pb.PromptResponse]):
    """Says what the caller said and nothing else, but for the form of a structured answer."""

    rpc = "Prompt"
    version = "1"
    request = pb.PromptRequest
    response = pb.PromptResponse

    def violations(self, request: pb.PromptRequest) -> Iterator[Violation]:
        if not request.prompt.strip():
            yield Violation("prompt", "is empty")
        yield from checks.text("prompt", request.prompt, _PROMPT_CHARACTERS)
        yield from checks.text("system", request.system, _SYSTEM_CHARACTERS)
        yield from images.violations(request)
        if request.HasField("response_schema"):
            yield from answer_schema.violations("response_schema", request.response_schema)

    def query(self, request: pb.PromptRequest) -> PromptQuery:
        schema = answer_schema.written_out(request.response_schema) if request.HasField("response_schema") else None
        return PromptQuery(prompt=request.prompt.strip(), system=request.system.strip(), response_schema=schema)

    def wording(self, query: PromptQuery, profile: Profile, plan: ImagePlan) -> Wording:
        system, schema = profile.escape(query.system), None
        if query.response_schema is not None:
            schema = strict(query.response_schema)
            if schema is None or not profile.shows_schema:
                written = json.dumps(query.response_schema, ensure_ascii=False, separators=(",", ":"))
                form = f"Answer with JSON alone, of this JSON Schema: {profile.escape(written)}"
                system = f"{system}\n\n{form}" if system else form
        return Wording(
            system=system, user=profile.escape(query.prompt), max_output_tokens=_MAX_OUTPUT_TOKENS, schema=schema
        )

    def streams(self, query: PromptQuery) -> bool:
        return True

    def text(self, response: pb.PromptResponse) -> str:
        return response.text

    def parse(self, text: str, query: PromptQuery, profile: Profile, plan: ImagePlan) -> pb.PromptResponse:
        if query.response_schema is None:
            answer = answers.unwrapped(text, _KEYS) if profile.takes_query else text.strip()
            if not answer:
                raise answers.unusable("answer")
            return pb.PromptResponse(text=answer)
        found = structured(text, query.response_schema)
        if found is None:
            raise answers.unusable("object of the schema given")
        answer, struct = found
        return pb.PromptResponse(text=answer, structured=struct)

    def doubts(self, response: pb.PromptResponse, query: PromptQuery, category: str) -> Iterator[Doubt]:
        if query.response_schema is None:
            yield from doubts.of_text(response.text)
        elif doubts.is_empty(json_format.MessageToDict(response.structured)):
            yield Doubt.EMPTY_FIELDS

    def combines(self, query: PromptQuery) -> bool:
        # The rules of one prompt are not for the other tasks, and its schema's references are to its own root.
        return not query.system and query.response_schema is None

    def agreement(self, first: pb.PromptResponse, second: pb.PromptResponse, query: PromptQuery) -> float:
        if query.response_schema is not None:
            return agreement.of_fields(*(json_format.MessageToDict(each.structured) for each in (first, second)))
        return agreement.of_answers(first.text, second.text)

    def images(self, request: pb.PromptRequest) -> list[tuple[str, image_pb2.Image]]:
        return images.listed(request)


TASK = Prompt()
