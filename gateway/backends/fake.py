"""A model that answers from a script: for tests, demonstrations and load runs. It never looks at an image."""

from __future__ import annotations

import asyncio
import itertools
import re
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from gateway.domain import Completion
from gateway.errors import (
    BackendUnavailable,
    DeadlineExceeded,
    GatewayError,
    InvalidImage,
    Overloaded,
    Refused,
    TruncatedAnswer,
    UnsupportedByModel,
    UnusableAnswer,
    UpstreamAccount,
    UpstreamAuth,
    UpstreamRateLimited,
)
from gateway.usage import Usage

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from gateway.domain import Prompt, QuotaListener, SentImage

OK = "OK"
_MESSAGE = "scripted failure"
# Every failure that a backend can have, by its reason.
_FAILURES: dict[str, Callable[[Usage], GatewayError]] = {
    DeadlineExceeded.reason: lambda _: DeadlineExceeded(_MESSAGE),
    BackendUnavailable.reason: lambda _: BackendUnavailable(_MESSAGE),
    Overloaded.reason: lambda _: Overloaded(_MESSAGE),
    UpstreamRateLimited.reason: lambda _: UpstreamRateLimited(_MESSAGE, retry_after_s=1.0),
    UpstreamAuth.reason: lambda _: UpstreamAuth(_MESSAGE),
    UpstreamAccount.reason: lambda _: UpstreamAccount(_MESSAGE),
    InvalidImage.reason: lambda _: InvalidImage(_MESSAGE, limit="decode"),
    UnsupportedByModel.reason: lambda _: UnsupportedByModel(_MESSAGE),
    # These come from a model that has read and written, and so are billed.
    Refused.reason: lambda usage: Refused(_MESSAGE, usage=usage),
    UnusableAnswer.reason: lambda usage: UnusableAnswer(_MESSAGE, usage=usage),
    TruncatedAnswer.reason: lambda usage: TruncatedAnswer(_MESSAGE, usage=usage),
}


def _known(outcome: str) -> str:
    if outcome != OK and outcome not in _FAILURES:
        raise ValueError(f"no outcome {outcome!r}; there are {', '.join((OK, *_FAILURES))}")
    return outcome


class Options(BaseModel):
    """The script."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    # Text of the answer by RPC name, such as `{"Detect": "{\"detections\": []}"}`, in the form that the model's
    # profile has answers in; and the text for every other RPC.
    answers: dict[str, str] = Field(default_factory=dict)
    answer: str = "A scripted answer."
    # How the calls go, one after another: OK, or the reason of a failure such as REFUSED. After the last all are OK,
    # unless the script starts again.
    outcomes: tuple[Annotated[str, AfterValidator(_known)], ...] = ()
    repeat: bool = False
    # Seconds that an answer or a failure takes, and of these until the first token.
    delay_s: float = Field(default=0.0, ge=0, le=3600)
    time_to_first_token_s: float | None = Field(default=None, ge=0, le=3600)
    # Pieces of a streamed answer that come before a failure. The time after the first one is shared among the others.
    pieces_before_failure: int = Field(default=0, ge=0, le=100_000)
    # Tokens counted besides those of the images.
    input_text_tokens: int = Field(default=26, ge=0)
    output_tokens: int = Field(default=12, ge=0)
    # What the answer names as its model.
    model: str = "scripted"
    ready: bool = True
    # How many of the last calls are remembered, with their images.
    remember: int = Field(default=16, ge=0, le=100_000)


@dataclass(frozen=True, slots=True)
class Call:
    """One call as the model got it."""

    prompt: Prompt
    images: tuple[SentImage, ...]
    timeout_s: float


@asynccontextmanager
async def connect(
    options: Options,
    *,
    on_quota: QuotaListener = lambda _: None,  # noqa: ARG001  it has no limits of its own
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
) -> AsyncGenerator[Fake]:
    """Gives the scripted model; nothing is opened."""
    yield Fake(options, sleep)


class Fake:
    """The scripted model. *calls* has the last ones it got, *cancelled* counts those that were given up."""

    def __init__(self, options: Options, sleep: Callable[[float], Awaitable[object]]) -> None:
        """Takes its time by *sleep*."""
        self.calls: deque[Call] = deque(maxlen=options.remember)
        self.cancelled = 0
        self._options = options
        self._sleep = sleep
        script = itertools.cycle(options.outcomes) if options.repeat else options.outcomes
        self._outcomes = itertools.chain(script, itertools.repeat(OK))

    @property
    def streams(self) -> bool:
        """It does, word by word."""
        return True

    async def complete(self, prompt: Prompt, images: Sequence[SentImage], *, timeout_s: float) -> Completion:
        """Does as the script says."""
        outcome = self._called(prompt, images, timeout_s)
        await self._wait(self._options.delay_s, timeout_s)
        return self._ended(outcome, prompt, images)

    async def stream(
        self, prompt: Prompt, images: Sequence[SentImage], *, timeout_s: float
    ) -> AsyncGenerator[str | Completion]:
        """Does so, giving each word with the space before it by itself."""
        outcome = self._called(prompt, images, timeout_s)
        pieces = re.findall(r"\s*\S+", self._text(prompt))
        if outcome != OK:
            pieces = pieces[: self._options.pieces_before_failure]
        first_s = min(self._options.time_to_first_token_s or 0.0, self._options.delay_s)
        rest_s = (self._options.delay_s - first_s) / max(len(pieces) - 1, 1)
        left_s = timeout_s
        for index, piece in enumerate(pieces):
            pause_s = rest_s if index else first_s
            await self._wait(pause_s, left_s)
            left_s -= pause_s
            yield piece
        yield self._ended(outcome, prompt, images)

    def _called(self, prompt: Prompt, images: Sequence[SentImage], timeout_s: float) -> str:
        self.calls.append(Call(prompt, tuple(images), timeout_s))
        return next(self._outcomes)

    async def _wait(self, seconds: float, left_s: float) -> None:
        try:
            await self._sleep(min(seconds, max(left_s, 0.0)))
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if seconds > left_s:
            raise DeadlineExceeded("the scripted answer takes longer than was left")

    def _text(self, prompt: Prompt) -> str:
        return self._options.answers.get(prompt.rpc, self._options.answer)

    def _ended(self, outcome: str, prompt: Prompt, images: Sequence[SentImage]) -> Completion:
        usage = Usage(
            input_text=self._options.input_text_tokens,
            input_image=sum(image.plan.token_count for image in images),
            output=self._options.output_tokens,
        )
        if outcome != OK:
            raise _FAILURES[outcome](usage)
        return Completion(
            self._text(prompt),
            usage,
            provider_model=self._options.model,
            service_tier=prompt.service_tier,
            time_to_first_token_s=self._options.time_to_first_token_s,
        )

    async def ready(self) -> bool:
        """Says what the script says."""
        return self._options.ready
