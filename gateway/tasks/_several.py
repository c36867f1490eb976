"""Asks a model several tasks at once, so that it reads the image once."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gateway.domain import SeveralQuery
from gateway.errors import UnsupportedByModel, UnusableAnswer
from gateway.tasks import Task, Wording, _answers as answers
from gateway.tasks._json import values
from gateway.tasks._wording import closed_object
from visiongateway.v1.call_pb2 import CallInfo

if TYPE_CHECKING:
    from gateway.domain import ImagePlan, JsonSchema, Query
    from gateway.errors import Violation
    from gateway.profiles import Profile
    from gateway.tasks import AnyTask
    from gateway.tasks._doubts import Doubt

_MOST_OUTPUT_TOKENS = 32_768
_TEXT: JsonSchema = {"type": "string"}


@dataclass(frozen=True, slots=True)
class SeveralAnswers:
    """The response to each query in their order, None where it was of no use; *info* is that of them together."""

    responses: tuple[Any, ...]
    info: CallInfo = field(default_factory=CallInfo)


class Several(Task[Any, SeveralQuery, SeveralAnswers]):
    """Asks for one JSON object that has a property for each query, in that task's own words and form."""

    rpc = SeveralQuery.rpc

    def __init__(self, tasks: Mapping[str, AnyTask]) -> None:
        """Asks any of *tasks*, by RPC."""
        self._tasks = tasks

    @property
    def version(self) -> str:  # type: ignore[override]  # It changes with those of its parts.
        return "1." + "".join(task.version for task in self._tasks.values())

    def violations(self, request: Any) -> Iterator[Violation]:
        return iter(())

    def query(self, request: Any) -> SeveralQuery:
        raise NotImplementedError

    def wording(self, query: SeveralQuery, profile: Profile, plan: ImagePlan) -> Wording:
        """Raises `UnsupportedByModel` for families that do not write JSON by a schema."""
        if profile.takes_query or not profile.structured_output:
            raise UnsupportedByModel("this model takes one task a call", metadata={"limit": "tasks"})
        told = {
            name: self._tasks[each.rpc].wording(each, profile, plan)
            for name, each in zip(_names(query), query.queries, strict=True)
        }
        every = "\n\n".join(f"{name}: {wording.user}" for name, wording in told.items())
        return Wording(
            user=(
                "Do each of the tasks below about the image. Answer with one JSON object alone that has the properties "
                f"{', '.join(told)}. The value of each is the answer to that task as the task asks for it: an object "
                f"where it asks for JSON, else a string.\n\n{every}"
            ),
            max_output_tokens=min(sum(each.max_output_tokens for each in told.values()), _MOST_OUTPUT_TOKENS),
            schema=closed_object(**{name: each.schema or _TEXT for name, each in told.items()}),
        )

    def parse(self, text: str, query: SeveralQuery, profile: Profile, plan: ImagePlan) -> SeveralAnswers:
        """Reads each answer as its task does; raises `UnusableAnswer` only where none is of use."""
        names = _names(query)
        found = (value for value, _ in values(text) if isinstance(value, dict) and value.keys() & set(names))
        written = next(found, {})
        responses = tuple(
            self._read(written.get(name), each, profile, plan) for name, each in zip(names, query.queries, strict=True)
        )
        if all(response is None for response in responses):
            raise answers.unusable("answer to any of the tasks")
        return SeveralAnswers(responses)

    def agreement(self, first: SeveralAnswers, second: SeveralAnswers, query: SeveralQuery) -> float:
        both = zip(query.queries, first.responses, second.responses, strict=True)
        found = [self._tasks[each.rpc].agreement(a, b, each) for each, a, b in both if a is not None and b is not None]
        return math.fsum(found) / len(query.queries)

    def doubts(self, response: SeveralAnswers, query: SeveralQuery, category: str) -> Iterator[Doubt]:
        for each, answer in zip(query.queries, response.responses, strict=True):
            if answer is not None:
                yield from self._tasks[each.rpc].doubts(answer, each, category)

    def _read(self, value: object, query: Query, profile: Profile, plan: ImagePlan) -> Any:
        if value is None:
            return None
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        try:
            return self._tasks[query.rpc].parse(text, query, profile, plan)
        except UnusableAnswer:
            return None


def _names(query: SeveralQuery) -> list[str]:
    return [f"task_{number}" for number in range(1, len(query.queries) + 1)]
