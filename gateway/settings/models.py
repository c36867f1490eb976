"""The tables about models: what is asked, how much at once, and what happens when it fails."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import ConfigDict, Discriminator, Field, Tag, field_validator

from gateway.settings.money import GpuPriceSettings, PriceSettings
from gateway.settings.table import Table

_GPU_ONLY = GpuPriceSettings.model_fields.keys() - PriceSettings.model_fields.keys()


def _sort_of_price(given: object) -> str | None:
    """Tells by its names which price is meant, so that only what is wrong with that one is told."""
    if isinstance(given, dict):
        return GpuPriceSettings.__name__ if _GPU_ONLY & given.keys() else PriceSettings.__name__
    if isinstance(given, PriceSettings | GpuPriceSettings):
        return type(given).__name__
    return "free" if given == "free" else None


_Price: TypeAlias = Annotated[
    Annotated[PriceSettings, Tag(PriceSettings.__name__)]
    | Annotated[GpuPriceSettings, Tag(GpuPriceSettings.__name__)]
    | Annotated[Literal["free"], Tag("free")],
    Discriminator(
        _sort_of_price,
        custom_error_type="price",
        custom_error_message='must be "free", or a table with input and output, or with gpu_hour and tokens a second',
    ),
]

# Of the calls that are asked at once, so many times may wait.
_QUEUE = 4


class BreakerSettings(Table):
    """`breaker`: when a model that fails is given a pause."""

    # Failures in a row; or their share, of at least 20 calls in 10 seconds.
    failures: int = Field(default=5, ge=1, le=1000)
    share: float = Field(default=0.5, gt=0, le=1)
    # Seconds of the first pause; each further one is twice as long, up to the longest.
    open_s: float = Field(default=1.0, gt=0, le=60)
    longest_open_s: float = Field(default=30.0, gt=0, le=3600)


class RetrySettings(Table):
    """`retry`: when a model that failed is asked once more."""

    # Times one call asks it at most, the first included.
    attempts: int = Field(default=3, ge=1, le=10)
    # Seconds to wait at least, and at most; each wait is drawn between the least and three times the last one.
    wait_s: float = Field(default=0.1, gt=0, le=10)
    longest_wait_s: float = Field(default=2.0, gt=0, le=60)


class ModelSettings(Table):
    """`[models.NAME]`: one model endpoint. What is not named here goes to its kind of backend as an option."""

    model_config = ConfigDict(extra="allow", frozen=True)

    # Module of gateway/backends that speaks to it.
    kind: str
    # Model family, a module of gateway/profiles. Unset: gemma4 for triton, gpt55 for openai.
    profile: str | None = None
    # Unset: the family's own. "free" counts nothing.
    price: _Price | None = None
    # Whether the model is in the operator's own hands. Unset: true for triton, false for openai.
    local: bool | None = None
    # RPCs that it is asked. Unset: all that its family can do.
    tasks: tuple[str, ...] | None = None
    # Share of correct answers in [0, 1], for `priority: QUALITY`: one, or by category. Unset: the family's own.
    quality: dict[str, Annotated[float, Field(ge=0, le=1)]] | None = None
    # Calls asked at once.
    max_inflight: int = Field(default=64, ge=1, le=100_000)
    # Whether to find out how many calls at once the model can take, up to `max_inflight`.
    adaptive: bool = False
    # Calls waiting, in a burst. Unset: four times as many as are asked at once.
    max_queue: int | None = Field(default=None, ge=0, le=100_000)
    # false: the model is asked however often it fails.
    breaker: BreakerSettings | Literal[False] = BreakerSettings()
    # false: no call asks it twice.
    retry: RetrySettings | Literal[False] = RetrySettings()

    @field_validator("quality", mode="before")
    @classmethod
    def _one_figure(cls, given: object) -> object:
        return {"overall": given} if isinstance(given, int | float) else given

    @property
    def longest_queue(self) -> int:
        """Calls that may wait, in a burst."""
        return _QUEUE * self.max_inflight if self.max_queue is None else self.max_queue

    @property
    def options(self) -> dict[str, Any]:
        """The options of the backend."""
        return dict(self.model_extra or {})
