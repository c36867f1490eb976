"""The tables about routes: which models are asked, in which order, and what else is asked of them; and the cache."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

from pydantic import Field, field_validator, model_validator

from gateway.settings.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterator

_Share: TypeAlias = Annotated[float, Field(gt=0, le=1)]


class AgreementSettings(Table):
    """`agreement`: some answers are compared with those of the route's next model."""

    # Share of calls for which the next model is asked too.
    share: _Share
    # Below this agreement, in [0, 1], the next model's answer is given.
    least: _Share = 0.5


class HedgeSettings(Table):
    """`hedge`: the next model is asked too when the first one takes long, and the first answer is given.

    Only a next model that is free, or whose worst case the call's `max_cost` has room for, besides the first one's.
    Not with `escalate`, which has its own reason to ask the next model.
    """

    # Seconds to wait for the first model. Unset: what 19 of 20 of its calls take, once that is known.
    after_s: float | None = Field(default=None, gt=0, le=600)


class ShadowSettings(Table):
    """`shadow`: some calls are made to one more model, whose answers are compared and thrown away.

    They are made as the principal `shadow`, whose budget bounds what they cost.
    """

    # Any model; calls that it answered itself have no shadow.
    model: str
    # Share of answered calls.
    share: _Share
    # Calls asked at once, and calls waiting; beyond it none is made.
    max_inflight: int = Field(default=2, ge=1, le=1000)
    max_queue: int = Field(default=16, ge=0, le=10_000)


class RouteSettings(Table):
    """`[routes.NAME]`: models, and how to choose among them. A bare list of names is the same as `models` alone."""

    models: tuple[str, ...]
    # order: as listed. weights: drawn by `weights`, then as listed. cheapest, fastest: by expected cost or latency.
    # quality: by quality in the call's category, models within `tolerance` of the best one by expected cost.
    choose: Literal["order", "weights", "cheapest", "fastest", "quality"] = "order"
    # Of each model how often it is asked first, in any unit; models that are not named never are.
    weights: dict[str, Annotated[float, Field(ge=0)]] = Field(default_factory=dict)
    tolerance: float = Field(default=0.0, ge=0, le=1)
    # Whether answers that are doubtful for their task are passed over for the next model's.
    escalate: bool = False
    agreement: AgreementSettings | None = None
    hedge: HedgeSettings | None = None
    shadow: ShadowSettings | None = None

    @model_validator(mode="before")
    @classmethod
    def _bare_list(cls, given: object) -> object:
        return {"models": given} if isinstance(given, list | tuple) else given

    @model_validator(mode="after")
    def _fits_together(self) -> RouteSettings:
        if problems := list(self._problems()):
            raise ValueError("\n".join(problems))
        return self

    def _problems(self) -> Iterator[str]:
        if twice := [name for name, count in Counter(self.models).items() if count > 1]:
            yield f"models: {', '.join(twice)} is there twice"
        if (self.choose == "weights") != bool(self.weights):
            yield 'weights: are there if, and only if, choose = "weights"'
        if unknown := self.weights.keys() - set(self.models):
            yield f"weights: {', '.join(sorted(unknown))} is not among the route's models"
        if self.weights and not any(self.weights.values()):
            yield "weights: one at least is above 0"
        if self.hedge and len(self.models) == 1:
            yield "hedge: there is no next model"
        if self.hedge and self.escalate:
            yield "hedge: the next model is asked for one reason only: not with escalate = true"
        if self.escalate and len(self.models) == 1:
            yield "escalate: there is no next model"
        if self.agreement and not self.escalate:
            yield "agreement: is of no use without escalate = true"
        if self.shadow and self.models == (self.shadow.model,):
            yield "shadow.model: is not the route's only model"

    @property
    def named(self) -> tuple[str, ...]:
        """Every model that the route names, that of its shadow too."""
        return (*self.models, self.shadow.model) if self.shadow else self.models


class CacheSettings(Table):
    """`[cache]`: answers kept for equal calls."""

    # "off", "memory", sqlite:///PATH, shared by the workers of one machine, or redis://HOST:PORT/0, by many machines.
    store: str = Field(default="off", repr=False)
    # Seconds for which an answer is kept, and MiB of answers in memory or in SQLite.
    ttl_s: float = Field(default=3600.0, gt=0, le=31_536_000)
    max_mib: int = Field(default=64, ge=1, le=1_048_576)
    # Whose equal calls share an answer: those of one principal, or of all.
    scope: Literal["principal", "all"] = "all"

    @field_validator("store")
    @classmethod
    def _is_known(cls, store: str) -> str:
        if store not in {"off", "memory"} and not store.startswith(("sqlite:///", "redis://", "rediss://")):
            # What stands there is not repeated: it may have a password in it.
            raise ValueError('must be "off", "memory", sqlite:///PATH or redis://HOST:PORT/0')
        return store
