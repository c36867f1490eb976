"""The composition root: the only module that names concrete parts."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from limits.aio.storage import MemoryStorage, RedisStorage
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from pydantic import ValidationError

from gateway import profiles, tasks
from gateway.backends import open_backend, parse_options
from gateway.budget import Window
from gateway.budget.redis import RedisStore
from gateway.budget.shielded import Shielded
from gateway.budget.sqlite import SqliteStore
from gateway.imaging import Limits, Preparer
from gateway.latency import Latency
from gateway.ledger import Ledger, LedgerUnavailable
from gateway.metrics import Metrics
from gateway.model import ProfiledModel
from gateway.pipeline import Pipeline
from gateway.policies import Candidate
from gateway.policies.account import Account
from gateway.policies.appraise import Appraise
from gateway.policies.breaker import Breaker
from gateway.policies.budget import Budget, Budgets
from gateway.policies.cap import Cap
from gateway.policies.fallback import Fallback
from gateway.policies.limit import Limit
from gateway.policies.route import Route
from gateway.policies.save import Save
from gateway.pricing import FREE, Price, per_gpu_hour, per_million
from gateway.quoting import Quoter
from gateway.server import http, lag, methods
from gateway.server.admission import Admission
from gateway.server.identity import ANONYMOUS, Identity
from gateway.server.listen import Listener
from gateway.server.readiness import Readiness
from gateway.server.service import Service
from gateway.server.turnstile import Allowance, Turnstile
from gateway.settings import GpuPriceSettings, SettingsError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Mapping

    from limits.aio.storage import Storage
    from pydantic import BaseModel

    from gateway.budget import Store
    from gateway.domain import Clock
    from gateway.policies import Model
    from gateway.profiles import Profile
    from gateway.settings import ImageSettings, ModelSettings, Settings
    from gateway.tasks import AnyTask

_MIB = 1 << 20
_MEGA = 1_000_000
# What a message holds besides its image: words, options, and for VQA a few more small images.
_REST_OF_MESSAGE = 4 * _MIB
_FAMILIES = {"triton": "gemma4", "openai": "gpt55"}


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where a running gateway listens, as `HOST:PORT`."""

    grpc: str
    http: str


@dataclass(frozen=True, slots=True)
class _Plan:
    """One model of the settings, with everything about it found and checked."""

    name: str
    settings: ModelSettings
    options: BaseModel
    profile: Profile
    price: Price

    @property
    def local(self) -> bool:
        return self.settings.kind != "openai" if self.settings.local is None else self.settings.local

    @property
    def quality(self) -> float | None:
        return self.profile.quality if self.settings.quality is None else self.settings.quality


def check(settings: Settings) -> list[str]:
    """Says what is wrong with the models of *settings*, a line for each problem; calls nobody."""
    problems: list[str] = []
    _plans(settings, problems)
    return problems


def quoters(settings: Settings) -> dict[str, tuple[Quoter, Profile]]:
    """Gives what prices calls at each model of *settings*, and the model's profile; calls nobody.

    Raises `SettingsError` with every problem of the models.
    """
    problems: list[str] = []
    plans = _plans(settings, problems)
    if problems:
        raise SettingsError(problems)
    known = tasks.load()
    return {plan.name: (Quoter(plan.name, plan.profile, plan.price, known), plan.profile) for plan in plans}


async def run(
    settings: Settings,
    *,
    stop: asyncio.Event,
    started: Callable[[Addresses], Awaitable[None]] | None = None,
    clock: Clock = time.monotonic,
) -> None:
    """Serves until *stop* is set, then drains; *started* is told where, once the ports are open.

    Raises `SettingsError` with every problem of the models, and OSError when a port cannot be had.
    """
    problems: list[str] = []
    plans = _plans(settings, problems)
    if problems:
        raise SettingsError(problems)
    registry = CollectorRegistry()
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)
    metrics = Metrics(registry)
    server = settings.server
    async with AsyncExitStack() as stack:
        preparer = await stack.enter_async_context(
            Preparer(workers=settings.images.workers, timeout_s=settings.images.timeout_s)
        )
        ledger = await _ledger(settings.ledger.url, stack, metrics)
        known = tasks.load()
        store = _store(settings, stack)
        budgets = _budgets(settings, store, metrics)
        latency = Latency()
        candidates = {}
        for plan in plans:
            candidates[plan.name] = await _open(
                plan,
                stack,
                known,
                preparer,
                latency=latency,
                metrics=metrics,
                clock=clock,
                ledger=ledger,
                budgets=budgets,
            )
        # Route -> Fallback -> for each model: Cap -> Breaker -> Limit -> Budget -> Account -> the model itself.
        try_in_turn = partial(Fallback, latency=latency, metrics=metrics, clock=clock)
        model = Route(candidates, settings.all_routes, try_in_turn=try_in_turn)
        saving = Save(model, quotes=[candidate.quote for candidate in candidates.values()], metrics=metrics)
        pipeline = Pipeline(saving, limits=_limits(settings.images), metrics=metrics, clock=clock)
        readiness = Readiness({name: candidate.model for name, candidate in candidates.items()}, metrics)
        admission = Admission(server.max_inflight, metrics)
        listener = Listener(
            Service(
                methods.bind(known, pipeline, model.offers),
                admission=admission,
                turnstile=_turnstile(settings, store, metrics),
                metrics=metrics,
                settings=server,
                clock=clock,
            ),
            admission=admission,
            readiness=readiness,
            max_message_bytes=settings.images.max_mib * _MIB + _REST_OF_MESSAGE,
            max_deadline_s=server.max_deadline_s,
        )
        await readiness.look()
        watches = [readiness.watch(server.readiness_interval_s), lag.watch(metrics)]
        if budgets:
            watches.append(budgets.watch(server.readiness_interval_s))
        await stack.enter_async_context(_background(*watches))
        http_port = await stack.enter_async_context(http.serve(http.app(registry, readiness), server.http_address))
        grpc_port = await listener.start(server.grpc_address)
        try:
            if started:
                await started(
                    Addresses(_with_port(server.grpc_address, grpc_port), _with_port(server.http_address, http_port))
                )
            await stop.wait()
        finally:
            await listener.drain(wait_s=server.drain_wait_s, grace_s=server.grace_s)


@asynccontextmanager
async def alone(
    settings: Settings, name: str, *, clock: Clock = time.monotonic
) -> AsyncGenerator[tuple[Pipeline, Mapping[str, AnyTask]]]:
    """Gives the path of a call to the model *name*, and the tasks it takes, without ports, routes and records.

    For trying a model out. Raises `SettingsError` with every problem of the models.
    """
    problems: list[str] = []
    plans = {plan.name: plan for plan in _plans(settings, problems)}
    if problems:
        raise SettingsError(problems)
    metrics = Metrics(CollectorRegistry())
    known = tasks.load()
    async with AsyncExitStack() as stack:
        preparer = await stack.enter_async_context(
            Preparer(workers=settings.images.workers, timeout_s=settings.images.timeout_s)
        )
        candidate = await _open(
            plans[name], stack, known, preparer, latency=Latency(), metrics=metrics, clock=clock, ledger=None
        )
        yield Pipeline(candidate.model, limits=_limits(settings.images), metrics=metrics, clock=clock), known


async def _open(  # noqa: PLR0913  what all models share
    plan: _Plan,
    stack: AsyncExitStack,
    known: Mapping[str, AnyTask],
    preparer: Preparer,
    *,
    latency: Latency,
    metrics: Metrics,
    clock: Clock,
    ledger: Ledger | None,
    budgets: Budgets | None = None,
) -> Candidate:
    """Connects to one model and stacks its policies, the outermost last."""
    settings = plan.settings
    quoter = Quoter(plan.name, plan.profile, plan.price, known)
    innermost = ProfiledModel(
        name=plan.name,
        kind=settings.kind,
        backend=await stack.enter_async_context(open_backend(settings.kind, plan.options)),
        profile=plan.profile,
        tasks=known,
        preparer=preparer,
        clock=clock,
    )
    model: Model = Account(
        innermost,
        name=plan.name,
        provider=settings.kind,
        price=plan.price,
        latency=latency,
        metrics=metrics,
        clock=clock,
        provider_model=str(getattr(plan.options, "model", "")),
        ledger=ledger,
    )
    if budgets and not plan.price.free:
        model = Budget(model, name=plan.name, quote=quoter.quote, budgets=budgets, metrics=metrics, clock=clock)
    model = Limit(
        model,
        name=plan.name,
        max_inflight=settings.max_inflight,
        max_queue=settings.max_queue,
        metrics=metrics,
        clock=clock,
    )
    breaker = None
    if settings.breaker:
        rule = settings.breaker.model_dump()
        model = breaker = Breaker(model, name=plan.name, **rule, latency=latency, metrics=metrics, clock=clock)
    if not plan.price.free:
        model = Appraise(model, name=plan.name, quote=quoter.quote, metrics=metrics)
    model = Cap(model, name=plan.name, fit=quoter.fit, metrics=metrics)
    return Candidate(
        plan.name,
        model,
        local=plan.local,
        quality=plan.quality,
        quote=quoter.quote,
        fit=quoter.fit,
        is_open=lambda: breaker is not None and breaker.is_open,
    )


async def _ledger(url: str, stack: AsyncExitStack, metrics: Metrics) -> Ledger | None:
    if url == "off":
        return None
    try:
        return await stack.enter_async_context(
            Ledger.open(url, lost=metrics.ledger_rows_lost, backlog=metrics.ledger_backlog)
        )
    except LedgerUnavailable as exc:
        raise SettingsError([f"ledger.url: {exc}"]) from None


def _store(settings: Settings, stack: AsyncExitStack) -> Store | None:
    """Gives the store of what principals have, None where nobody has a limit that it counts."""
    if not any(principal.budget.nano_usd or principal.max_inflight for principal in settings.principals.values()):
        return None
    url, charge = settings.budgets.store, settings.budgets.on_crash == "charge"
    path = url.removeprefix("sqlite:///")
    inner = RedisStore(url, charge_expired=charge) if path == url else SqliteStore(Path(path), charge_expired=charge)
    store = Shielded(inner)
    stack.push_async_callback(store.aclose)
    return store


def _budgets(settings: Settings, store: Store | None, metrics: Metrics) -> Budgets | None:
    limits = {
        name: {Window(window): nano for window, nano in principal.budget.nano_usd.items()}
        for name, principal in settings.principals.items()
        if principal.budget.nano_usd
    }
    if store is None or not limits:
        return None
    return Budgets(store, limits, fail_open=settings.budgets.on_failure == "open", metrics=metrics, now=time.time)


def _turnstile(settings: Settings, store: Store | None, metrics: Metrics) -> Turnstile:
    principals = settings.principals
    url = settings.budgets.store
    if url.startswith("sqlite"):
        rates: Storage = MemoryStorage()
    else:
        rates = RedisStorage(f"async+{url}", wrap_exceptions=True, implementation="redispy")
    return Turnstile(
        Identity(
            {key: name for name, principal in principals.items() for key in principal.key_sha256},
            anonymous=ANONYMOUS in principals,
        ),
        allowances={
            name: Allowance(principal.requests_per_s, principal.max_inflight) for name, principal in principals.items()
        },
        store=store,
        rates=rates,
        fail_open=settings.budgets.on_failure == "open",
        metrics=metrics,
        now=time.time,
    )


def _limits(images: ImageSettings) -> Limits:
    return Limits(
        max_bytes=images.max_mib * _MIB,
        max_pixels=round(images.max_megapixels * _MEGA),
        max_webp_pixels=round(images.max_megapixels_webp * _MEGA),
        max_side_px=images.max_side_px,
        formats=images.formats,
    )


@asynccontextmanager
async def _background(*work: Coroutine[None, None, None]) -> AsyncGenerator[None]:
    running = [asyncio.create_task(each) for each in work]
    try:
        yield
    finally:
        for each in running:
            each.cancel()
        await asyncio.gather(*running, return_exceptions=True)


def _with_port(address: str, port: int) -> str:
    return f"{address.rpartition(':')[0]}:{port}"


def _plans(settings: Settings, problems: list[str]) -> list[_Plan]:
    plans = []
    for name, model in settings.models.items():
        try:
            options = parse_options(model.kind, model.options)
            profile = profiles.load(_family(model))
            price = _price(model, profile, str(getattr(options, "model", name)))
        except ValidationError as exc:
            errors = exc.errors(include_input=False, include_url=False)
            problems += (f"models.{name}.{'.'.join(map(str, error['loc']))}: {error['msg']}" for error in errors)
        except (LookupError, ValueError) as exc:
            problems.append(f"models.{name}: {exc.args[0]}")
        else:
            plans.append(_Plan(name, model, options, profile, price))
    return plans


def _family(model: ModelSettings) -> str:
    family = model.profile or _FAMILIES.get(model.kind)
    if family is None:
        raise LookupError(f"kind {model.kind!r} serves any family: name one with profile")
    return family


def _price(model: ModelSettings, profile: Profile, provider_model: str) -> Price:
    if model.price is None:
        return profile.price(provider_model)
    if model.price == "free":
        return FREE
    if isinstance(model.price, GpuPriceSettings):
        given = model.price
        return per_gpu_hour(given.gpu_hour, given.input_tokens_per_s, given.output_tokens_per_s)
    return per_million(model.price.input, model.price.output, model.price.cached_input)
