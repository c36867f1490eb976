"""One file per task: `gateway/tasks/detect.py` answers the RPC `Detect`."""

from __future__ import annotations

import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeVar

from gateway.domain import Query
from gateway.tasks._agreement import Match
from gateway.tasks._doubts import Doubt

if TYPE_CHECKING:
    from gateway.domain import ImagePlan, JsonSchema
    from gateway.errors import Violation
    from gateway.profiles import Profile
    from visiongateway.v1.call_pb2 import CallInfo, CallOptions
    from visiongateway.v1.image_pb2 import Image


class TaskRequest(Protocol):
    """What every request message has."""

    @property
    def image(self) -> Image: ...
    @property
    def options(self) -> CallOptions: ...


class TaskResponse(Protocol):
    """What every response message has."""

    @property
    def info(self) -> CallInfo: ...


RequestT = TypeVar("RequestT", bound=TaskRequest)
QueryT = TypeVar("QueryT", bound=Query)
ResponseT = TypeVar("ResponseT", bound=TaskResponse)


@dataclass(frozen=True, slots=True)
class Wording:
    """What a task tells a model of one family: *user* follows the images; *schema* asks for JSON of that form.

    *max_output_tokens* is the task's own bound, used when the caller gave none.
    """

    user: str
    max_output_tokens: int
    system: str = ""
    schema: JsonSchema | None = None


class Task(ABC, Generic[RequestT, QueryT, ResponseT]):
    """One RPC: from its request to a query, from the query to words, from a model's text to the response."""

    rpc: ClassVar[str]
    # Changes whenever the wording does; part of `prompt_version` and of cache keys.
    version: ClassVar[str]
    request: type[RequestT]
    response: type[ResponseT]

    @abstractmethod
    def violations(self, request: RequestT) -> Iterator[Violation]:
        """Yields every field of the task's own that is out of range; image and options are checked by the server."""

    @abstractmethod
    def query(self, request: RequestT) -> QueryT:
        """Says in plain values what a checked request asks."""

    @abstractmethod
    def wording(self, query: QueryT, profile: Profile, plan: ImagePlan) -> Wording:
        """Says what to tell a model of *profile*'s family that is sent its first image as *plan* says."""

    @abstractmethod
    def parse(self, text: str, query: QueryT, profile: Profile, plan: ImagePlan) -> ResponseT:
        """Reads the model's answer, repairing what can be repaired, or raises `UnusableAnswer`; leaves `info` unset."""

    @abstractmethod
    def agreement(self, first: ResponseT, second: ResponseT, query: QueryT) -> float:
        """Gives how far two answers to *query* agree, in [0, 1]: symmetric, and 1 for equal ones; reads no `info`."""

    def matches(self, first: ResponseT, second: ResponseT, query: QueryT) -> Sequence[Match]:
        """Tells which objects of two answers to *query* are taken for the same; none where a task has no boxes."""
        return ()

    @abstractmethod
    def doubts(self, response: ResponseT, query: QueryT, category: str) -> Iterator[Doubt]:
        """Yields what makes *response* doubtful for the task, the surest sign first.

        *category* is what the caller says the image is, or empty; nothing here looks at pixels.
        """

    def left_out(self, text: str, response: ResponseT, query: QueryT) -> Iterator[Doubt]:
        """Yields why `parse` left out most of what stands in *text*, if it did; what it repaired is no reason."""
        return iter(())

    def images(self, request: RequestT) -> list[tuple[str, Image]]:
        """Lists the images of *request* with their field paths, the one that boxes speak of first."""
        return [("image", request.image)]

    def combines(self, query: QueryT) -> bool:
        """Tells whether a model may be asked *query* together with others about the same image."""
        return True

    def streams(self, query: QueryT) -> bool:
        """Tells whether what a model writes for *query* is text that can be handed over word by word."""
        return False

    def text(self, response: ResponseT) -> str:
        """Gives the text of an answer, for callers who take it in pieces."""
        raise NotImplementedError


AnyTask = Task[Any, Any, Any]


def askable(tasks: Mapping[str, AnyTask]) -> dict[str, AnyTask]:
    """Gives what models are asked, by RPC: each of *tasks*, and several of them at once."""
    several: AnyTask = import_module(f"{__name__}._several").Several(tasks)
    return {**tasks, several.rpc: several}


def load() -> dict[str, AnyTask]:
    """Collects the tasks of this package, keyed by RPC name."""
    modules = (
        import_module(f"{__name__}.{info.name}")
        for info in pkgutil.iter_modules(__path__)
        if not info.name.startswith("_")
    )
    return {module.TASK.rpc: module.TASK for module in modules}
