"""The words that every layer shares. Nothing here knows protobuf or a provider."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from typing import ClassVar, Protocol, TypeAlias

from gateway.rights import Rights
from gateway.usage import Usage

# Seconds on a monotonic clock. Injected wherever time matters, so that no test sleeps.
Clock: TypeAlias = Callable[[], float]

JsonSchema: TypeAlias = Mapping[str, object]


class ImageDetail(IntEnum):
    """How much of the image's detail the model gets to see."""

    LOW = 1
    MEDIUM = 2
    HIGH = 3
    MAX = 4


class Reasoning(Enum):
    """How long the model may think before it answers."""

    NONE = "none"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


class Priority(Enum):
    """What to prefer among the models of a route."""

    BALANCED = "balanced"
    QUALITY = "quality"
    COST = "cost"


class ServiceTier(Enum):
    """Service tier of a provider, in the words of our own contract."""

    STANDARD = "standard"
    FLEX = "flex"
    PRIORITY = "priority"


class Urgency(IntEnum):
    """Whether somebody waits for the answer; the lower number goes first."""

    INTERACTIVE = 0
    BULK = 1


class CachePolicy(Enum):
    """What a stored answer may be used for."""

    DEFAULT = "default"
    BYPASS = "bypass"
    REFRESH = "refresh"


class CacheOutcome(Enum):
    """What the cache did for a call."""

    HIT = "hit"
    MISS = "miss"
    COALESCED = "coalesced"


@dataclass(frozen=True, slots=True, weakref_slot=True)
class SourceImage:
    """An image as the caller sent it, checked by its header alone.

    *width_px* and *height_px* are those of the upright picture; *orientation* is the EXIF value, 1 to 8.
    *plain* says that every decoder shows the same picture: 8 bits a channel, no transparency, no CMYK.
    *parts* make up the same file without metadata: ranges `(start, stop)` of *data*, and bytes to stand between
    them; empty where nothing is to be left out. *field* is the path of the image in the request, for messages.
    """

    data: bytes
    media_type: str
    width_px: int
    height_px: int
    orientation: int = 1
    animated: bool = False
    plain: bool = True
    parts: tuple[tuple[int, int] | bytes, ...] = ()
    field: str = "image"


@dataclass(frozen=True, slots=True)
class ImagePlan:
    """The size at which a model gets an image, and what that costs.

    *token_count* is exact by the model's published rule; 0 for models that count none. *budget* is what the
    provider is told: a soft-token budget for Gemma (70 to 1120), a `detail` for OpenAI; empty when nothing is told.
    """

    width_px: int
    height_px: int
    token_count: int
    budget: str = ""


@dataclass(frozen=True, slots=True)
class SentImage:
    """An image as a model gets it: upright, stripped of metadata, encoded."""

    data: bytes
    media_type: str
    plan: ImagePlan


class Query:
    """What one call asks, in no model's words. Each task subclasses it once, as a frozen dataclass of plain values."""

    rpc: ClassVar[str]

    @property
    def parts(self) -> tuple[Query, ...]:
        """The queries of one task each that it comes to; itself, unless it asks several at once."""
        return (self,)


@dataclass(frozen=True, slots=True)
class SeveralQuery(Query):
    """Asks *queries*, two or more of one task each, about one image at once."""

    rpc: ClassVar[str] = "Annotate"
    queries: tuple[Query, ...]

    @property
    def parts(self) -> tuple[Query, ...]:
        return self.queries


@dataclass(frozen=True, slots=True)
class Options:
    """The caller's wishes, checked. None means: as the model's profile says for the task."""

    model: str = ""
    route: str = ""
    priority: Priority = Priority.BALANCED
    max_cost_nano_usd: int | None = None
    image_detail: ImageDetail | None = None
    reasoning: Reasoning = Reasoning.NONE
    max_output_tokens: int | None = None
    temperature: float | None = None
    seed: int | None = None
    allow_fallback: bool | None = None
    local_only: bool = False
    service_tier: ServiceTier = ServiceTier.STANDARD
    max_image_tokens: int | None = None
    urgency: Urgency = Urgency.INTERACTIVE
    category: str = ""
    cache: CachePolicy = CachePolicy.DEFAULT


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a model is told, in its family's words but in no provider's format.

    *user* comes after the images. *schema* asks for JSON; *schema_name* fits `[A-Za-z0-9_-]{1,64}`.
    *max_output_tokens* bounds answer and reasoning together. Sampling fields that are None are left to the provider.
    *trace_headers* go along with the request, by name and value: which span of which trace it is made in.
    """

    rpc: str
    user: str
    max_output_tokens: int
    system: str = ""
    schema: JsonSchema | None = None
    schema_name: str = ""
    reasoning: Reasoning = Reasoning.NONE
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    seed: int | None = None
    service_tier: ServiceTier = ServiceTier.STANDARD
    request_id: str = ""
    trace_headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Completion:
    """What a model answered, whole: a cut or refused answer is an error, never a completion.

    *text* is the answer without thoughts. *estimated* says that the usage was computed by us, not told by the provider.
    """

    text: str
    usage: Usage
    provider_model: str = ""
    service_tier: ServiceTier = ServiceTier.STANDARD
    estimated: bool = False
    time_to_first_token_s: float | None = None


class Outcome(Enum):
    """How one attempt went."""

    OK = "ok"
    FAILED = "failed"
    SKIPPED = "skipped"


class CostBasis(Enum):
    """Where a cost comes from."""

    BILLED = "billed"
    ESTIMATED = "estimated"
    FREE = "free"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One model that was asked, or passed over for *reason*."""

    model: str
    outcome: Outcome
    reason: str = ""
    duration_s: float = 0.0
    cost_nano_usd: int = 0
    usage: Usage = field(default_factory=Usage)
    cost_basis: CostBasis = CostBasis.FREE


@dataclass(slots=True)
class Trace:
    """What happened to one call so far; written along the way, read when it ends.

    *asked* estimates what the model that is being asked right now reads; None where none is. *reader_s* is what the
    caller itself took, slow to read what it was handed. *committed* says that it was handed text of an answer.
    """

    attempts: list[Attempt] = field(default_factory=list)
    route_reason: str = ""
    queue_s: float = 0.0
    image_s: float = 0.0
    upstream_s: float = 0.0
    reader_s: float = 0.0
    asked: Usage | None = None
    cache: CacheOutcome | None = None
    committed: bool = False


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
class Ask:
    """One call on its way through the policies to a model.

    *images* has at least one, in the caller's order; boxes always speak of the first.
    *deadline* is on the injected clock. *last_resort* says that nobody else is left to ask: every model is paused.
    *has_next* says that another model is asked should this one fail. *sink* takes the text as it is written, where the
    caller wants it so; *until* is then the end of the call's own time, where *deadline* is a share of it that another
    model is left the rest of. *quotes* has what was priced already, by model and for what exactly, so that no policy
    does so again. *rights* are those of the principal.
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


class Availability(Enum):
    """Whether a model can be asked."""

    READY = "ready"
    NOT_READY = "not_ready"
    PAUSED = "paused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """What there is to know of one configured model; money in nano-USD a token, 0 where it costs nothing per call.

    *tasks* are RPCs; *quality* is a share of correct answers in [0, 1], `overall` and by category.
    """

    name: str
    kind: str
    provider_model: str
    family: str
    tasks: tuple[str, ...]
    local: bool
    max_images: int
    context_tokens: int
    streams: bool
    structured_output: bool
    open_vocabulary: bool
    input_nano_usd: int
    cached_input_nano_usd: int
    output_nano_usd: int
    price_version: str
    free: bool
    max_inflight: int
    quality: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class RouteListing:
    """One route: its models in the operator's order, and how the first one is chosen."""

    name: str
    models: tuple[str, ...]
    choose: str
    escalates: bool
