"""One call on its way to a model, and what comes back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from gateway.domain.images import ImagePlan, SourceImage
from gateway.domain.prompt import Completion
from gateway.domain.query import Options, Query
from gateway.domain.trace import CostBasis, Trace
from gateway.rights import Rights


class Sink(Protocol):
    """Takes the text of one call as a model writes it."""

    @property
    def committed(self) -> bool:
        """Whether anything has reached the caller; from then on nobody but this model can answer the call."""
        ...

    async def write(self, text: str) -> None:
        """Hands *text*, never empty, to the caller, and returns once the caller can take more."""
        ...


@dataclass(frozen=True, slots=True)
class Quote:
    """What one ask would cost at one model, before it is asked; money in nano-USD.

    *image_tokens* are exact by the family's rule; *input_tokens* are those and an estimate of the text's.
    *max_cost* bounds the bill from above: a token for each byte of text, and as much output as the call may write.
    *sent_px* is the width and height of the first image as it would be sent.
    """

    image_tokens: int
    input_tokens: int
    max_output_tokens: int
    expected_cost: int
    max_cost: int
    price_version: str = ""
    sent_px: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True)
class Ask:
    """One call on its way through the policies to a model.

    *images* has at least one, in the caller's order; boxes always speak of the first.
    *deadline* is on the injected clock. *last_resort* says that nobody else is left to ask: every model is paused.
    *has_next* says that another model, which may be expected to answer, is asked should this one fail. *sink* takes the
    text as it is written, where the caller wants it so; *until* is then the end of the call's own time, where
    *deadline* is a share of it that another model is left the rest of. *quotes* has what was priced already, by model
    and for what exactly, so that no policy does so again. *rights* are those of the principal.
    """

    query: Query
    images: tuple[SourceImage, ...]
    options: Options
    deadline: float
    request_id: str
    trace: Trace = field(default_factory=Trace)
    principal: str = "anonymous"
    rights: Rights = field(default_factory=Rights)
    last_resort: bool = False
    has_next: bool = False
    sink: Sink | None = None
    until: float | None = None
    quotes: dict[str, tuple[Query, tuple[SourceImage, ...], Options, Quote]] = field(
        default_factory=dict, repr=False, compare=False
    )


@dataclass(frozen=True, slots=True)
class Offer:
    """One model that may be asked, and what it would cost; *quote* is None where *skip_reason* says why it cannot.

    *latency_s* is the time to expect; None where too few calls were made to tell.
    """

    model: str
    quote: Quote | None
    skip_reason: str = ""
    latency_s: float | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """A usable answer. *response* is the task's own message, which policies carry unread.

    *sent* says how the first image was sent, and *sent_bytes* how long its file was. *doubt* says why most of what the
    model wrote was left out of the response; empty where it was not.
    """

    response: object
    completion: Completion
    model: str
    backend: str
    prompt_version: str
    sent: ImagePlan
    sent_bytes: int
    doubt: str = ""
    cost_basis: CostBasis = CostBasis.FREE
    price_version: str = ""
