"""Opens the cache of answers, and puts a model behind it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from google.protobuf.message import DecodeError

from gateway.brief import prompt_version
from gateway.cache.behind import WriteBehind
from gateway.cache.key import Asked, key_of
from gateway.domain import Answer, Completion, ImagePlan
from gateway.imaging import Digests
from gateway.policies.cache import Cache, Codec
from gateway.usage import Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AsyncExitStack

    from gateway.cache import Store
    from gateway.compose.plan import Plan
    from gateway.domain import Ask, Clock
    from gateway.imaging import Preparer
    from gateway.latency import Latency
    from gateway.metrics import Metrics
    from gateway.policies import Model
    from gateway.settings import CacheSettings
    from gateway.tasks import AnyTask

_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Caching:
    """The cache that all models share. *per_principal* keeps the answers of each principal from the others."""

    store: WriteBehind
    digests: Digests
    tasks: Mapping[str, AnyTask]
    per_principal: bool
    metrics: Metrics
    clock: Clock

    def before(self, model: Model, plan: Plan, fit: Callable[[Ask, int], Ask], latency: Latency) -> Cache:
        """Gives the model of *plan* behind the cache; *fit* is that of its `Quoter`, *latency* everybody's."""
        asked = Asked(
            plan.name,
            plan.settings.kind,
            str(getattr(plan.options, "model", "")),
            {rpc: prompt_version(plan.profile, task) for rpc, task in self.tasks.items()},
        )
        return Cache(
            model,
            name=plan.name,
            store=self.store,
            digest=self.digests.of,
            key=partial(self._key, asked),
            codec=Codec(encode, partial(decode, self.tasks)),
            fit=fit,
            latency=latency,
            metrics=self.metrics,
            clock=self.clock,
        )

    def _key(self, asked: Asked, ask: Ask, pictures: Sequence[bytes]) -> bytes:
        return key_of(ask, pictures, asked, principal=ask.principal if self.per_principal else "")


def open_cache(
    settings: CacheSettings,
    stack: AsyncExitStack,
    *,
    preparer: Preparer,
    tasks: Mapping[str, AnyTask],
    metrics: Metrics,
    clock: Clock,
) -> Caching | None:
    """Gives the cache that *settings* describe, open until *stack* ends; None where it is off.

    Its store connects at its first use.
    """
    if settings.store == "off":
        return None
    # A file that other workers write to, or that is opened for the first time, may take longer than a server does.
    patience_s = 1.0 if settings.store.startswith("sqlite") else 0.25
    store = WriteBehind(_open_store(settings, clock), clock=clock, patience_s=patience_s)
    stack.push_async_callback(store.aclose)
    return Caching(store, Digests(preparer), tasks, settings.scope == "principal", metrics, clock)


def _open_store(settings: CacheSettings, clock: Clock) -> Store:
    # Imported only here: a gateway loads just the client that it uses.
    max_bytes = settings.max_mib * _MIB
    if settings.store == "memory":
        from gateway.cache.memory import MemoryStore  # noqa: PLC0415

        return MemoryStore(ttl_s=settings.ttl_s, max_bytes=max_bytes, clock=clock)
    path = settings.store.removeprefix("sqlite:///")
    if path == settings.store:
        from gateway.cache.redis import RedisStore  # noqa: PLC0415

        return RedisStore(settings.store, ttl_s=settings.ttl_s)
    from gateway.cache.sqlite import SqliteStore  # noqa: PLC0415

    return SqliteStore(Path(path), ttl_s=settings.ttl_s, max_bytes=max_bytes, now=time.time)


def encode(answer: Answer) -> bytes:
    """Gives the response as it goes over the wire, with what is told of the model in its `info`, and no cost."""
    response: Any = answer.response
    info = response.info
    info.model = answer.model
    info.backend = answer.backend
    info.provider_model = answer.completion.provider_model
    info.prompt_version = answer.prompt_version
    info.route_reason = answer.doubt
    info.image.sent_width_px = answer.sent.width_px
    info.image.sent_height_px = answer.sent.height_px
    info.image.sent_byte_count = answer.sent_bytes
    info.image.token_count = answer.sent.token_count
    value: bytes = response.SerializeToString()
    response.ClearField("info")
    return value


def decode(tasks: Mapping[str, AnyTask], rpc: str, value: bytes) -> Answer:
    """Gives the answer to a call of *rpc* that `encode` was given, at no cost; raises ValueError for other bytes."""
    try:
        response = tasks[rpc].response.FromString(value)
    except DecodeError as exc:
        raise ValueError("not an answer") from exc
    info = response.info
    image = info.image
    answer = Answer(
        response=response,
        completion=Completion("", Usage(), info.provider_model),
        model=info.model,
        backend=info.backend,
        prompt_version=info.prompt_version,
        sent=ImagePlan(image.sent_width_px, image.sent_height_px, image.token_count),
        sent_bytes=image.sent_byte_count,
        doubt=info.route_reason,
    )
    if not answer.model:
        raise ValueError("not an answer")
    response.ClearField("info")
    return answer
