"""A gateway from its settings to its last call."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector

from gateway import tasks
from gateway.compose import principals
from gateway.compose.model import Shared, open_model
from gateway.compose.plan import check, plans, quoters
from gateway.compose.routing import open_routing
from gateway.imaging import Limits, Preparer
from gateway.latency import Latency
from gateway.ledger import Ledger, LedgerUnavailable
from gateway.metrics import Metrics
from gateway.pipeline import Pipeline
from gateway.server import http, lag, methods
from gateway.server.admission import Admission
from gateway.server.listen import Listener
from gateway.server.readiness import Readiness
from gateway.server.service import Service
from gateway.settings import SettingsError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Mapping

    from gateway.domain import Clock
    from gateway.settings import ImageSettings, Settings
    from gateway.tasks import AnyTask

__all__ = ["Addresses", "alone", "check", "quoters", "run"]

_MIB = 1 << 20
_MEGA = 1_000_000
# What a message holds besides its image: words, options, and for VQA a few more small images.
_REST_OF_MESSAGE = 4 * _MIB


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where a running gateway listens, as `HOST:PORT`."""

    grpc: str
    http: str


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
    found = plans(settings)
    registry = CollectorRegistry()
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)
    metrics = Metrics(registry)
    server = settings.server
    async with AsyncExitStack() as stack:
        preparer = await stack.enter_async_context(
            Preparer(workers=settings.images.workers, timeout_s=settings.images.timeout_s)
        )
        store = principals.open_store(settings, stack)
        budgets = principals.budgets(settings, store, metrics)
        rates = principals.open_rates(settings, stack)
        shared = Shared(
            tasks=tasks.load(),
            preparer=preparer,
            latency=Latency(),
            metrics=metrics,
            clock=clock,
            ledger=await _ledger(settings.ledger.url, stack, metrics),
            budgets=budgets,
            token_rates=principals.token_rates(settings, rates, metrics),
        )
        candidates = {name: await open_model(plan, shared, stack) for name, plan in found.items()}
        model, offers = open_routing(settings, candidates, shared)
        pipeline = Pipeline(model, limits=_limits(settings.images), metrics=metrics, clock=clock)
        readiness = Readiness({name: candidate.model for name, candidate in candidates.items()}, metrics)
        admission = Admission(server.max_inflight, metrics)
        listener = Listener(
            Service(
                methods.bind(shared.tasks, pipeline, offers),
                admission=admission,
                turnstile=principals.turnstile(settings, store, rates, metrics),
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
    found = plans(settings)
    metrics = Metrics(CollectorRegistry())
    known = tasks.load()
    async with AsyncExitStack() as stack:
        preparer = await stack.enter_async_context(
            Preparer(workers=settings.images.workers, timeout_s=settings.images.timeout_s)
        )
        shared = Shared(tasks=known, preparer=preparer, latency=Latency(), metrics=metrics, clock=clock)
        candidate = await open_model(found[name], shared, stack)
        yield Pipeline(candidate.model, limits=_limits(settings.images), metrics=metrics, clock=clock), known


async def _ledger(url: str, stack: AsyncExitStack, metrics: Metrics) -> Ledger | None:
    if url == "off":
        return None
    try:
        return await stack.enter_async_context(
            Ledger.open(url, lost=metrics.ledger_rows_lost, backlog=metrics.ledger_backlog)
        )
    except LedgerUnavailable as exc:
        raise SettingsError([f"ledger.url: {exc}"]) from None


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
