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
from gateway.compose.cache import open_cache
from gateway.compose.generation import MIB, Generations, image_limits
from gateway.compose.model import Shared, open_model
from gateway.compose.plan import check, plans, quoters, read
from gateway.compose.reload import Reload
from gateway.compose.source import Source
from gateway.compose.tracing import open_tracer
from gateway.imaging import HeldImages, Preparer
from gateway.latency import Latency
from gateway.ledger import Ledger, LedgerUnavailable
from gateway.metrics import Metrics
from gateway.pipeline import Pipeline
from gateway.server import http, lag
from gateway.server.admission import Admission
from gateway.server.connections import Connections
from gateway.server.listen import LONGEST_CONNECTION_S, Listener
from gateway.server.readiness import Readiness
from gateway.server.service import Service
from gateway.settings import SettingsError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Mapping

    from gateway.domain import Clock
    from gateway.metrics.seat import Seat
    from gateway.settings import Settings
    from gateway.tasks import AnyTask

__all__ = ["Addresses", "Source", "alone", "check", "quoters", "read", "run"]

# What a message holds besides its image: words, options, and for VQA a few more small images.
_REST_OF_MESSAGE = 4 * MIB


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where a running gateway listens, as `HOST:PORT`; *https* says whether the HTTP port speaks TLS."""

    grpc: str
    http: str
    https: bool = False


async def run(
    settings: Settings,
    *,
    stop: asyncio.Event,
    started: Callable[[Addresses], Awaitable[None]] | None = None,
    clock: Clock = time.monotonic,
    source: Source | None = None,
    seat: Seat | None = None,
) -> None:
    """Serves until *stop* is set, then drains; *started* is told where, once the ports are open.

    The settings are read again when *source*, where they come from, says so; see docs/operate.md. A worker has a *seat*
    among others that share its ports and metrics.

    Raises `SettingsError` with every problem of the models, and OSError when a port cannot be had.
    """
    found = await asyncio.to_thread(plans, settings)
    registry, metrics = _instruments(seat)
    server = settings.server
    async with AsyncExitStack() as stack:
        # First, so that it ends last, after every span.
        tracer = await open_tracer(settings.tracing, stack, metrics)
        preparer = await stack.enter_async_context(
            Preparer(workers=settings.images.workers, timeout_s=settings.images.timeout_s)
        )
        counted = principals.open_counted(settings, stack, metrics)
        known = tasks.load()
        held = HeldImages(clock=clock, changed=metrics.images_held)
        shared = Shared(
            tasks=known,
            preparer=preparer,
            latency=Latency(),
            metrics=metrics,
            clock=clock,
            ledger=await _ledger(settings.ledger.url, stack, metrics),
            budgets=counted.budgets,
            token_rates=counted.token_rates,
            cache=open_cache(settings.cache, stack, preparer=preparer, tasks=known, metrics=metrics, clock=clock),
            held=held,
            propagate=settings.tracing.propagate,
        )
        generations = await stack.enter_async_context(Generations(shared, counted))
        generations.enter(await generations.open(settings, found))
        readiness = Readiness(generations.now.models, metrics)
        admission = Admission(server.max_inflight, metrics)
        connections = Connections(metrics, longest_s=LONGEST_CONNECTION_S, clock=clock) if server.tls else None
        listener = Listener(
            Service(
                lambda: generations.now,
                admission=admission,
                metrics=metrics,
                clock=clock,
                tracer=tracer,
                connections=connections,
            ),
            admission=admission,
            readiness=readiness,
            max_message_bytes=settings.images.max_mib * MIB + _REST_OF_MESSAGE,
            max_deadline_s=server.max_deadline_s,
            reflects=server.reflection,
            connections=connections,
            shares_port=seat is not None,
        )
        await readiness.look()
        look_every = lambda: generations.now.settings.server.readiness_interval_s  # noqa: E731  two watches share it
        reload = Reload(
            source or Source(lambda: settings),
            generations=generations,
            readiness=readiness,
            admission=admission,
            metrics=metrics,
            now=time.time,
        )
        await stack.enter_async_context(
            _background(
                readiness.watch(look_every),
                counted.budgets.watch(look_every),
                held.watch(look_every),
                lag.watch(metrics),
                reload.follow(),
            )
        )
        application = http.app(registry, readiness, generations.check_scrape)
        certificates = generations.certificates
        http_tls = certificates.for_http() if certificates and server.https else None
        http_port = await stack.enter_async_context(
            http.serve(application, server.http_address, http_tls, metrics=metrics, shares_port=seat is not None)
        )
        grpc_port = await listener.start(server.grpc_address, certificates.for_grpc() if certificates else None)
        try:
            if started:
                await started(
                    Addresses(
                        _with_port(server.grpc_address, grpc_port),
                        _with_port(server.http_address, http_port),
                        server.https,
                    )
                )
            await stop.wait()
        finally:
            last = generations.now.settings.server
            await listener.drain(wait_s=last.drain_wait_s, grace_s=last.grace_s)


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
        yield Pipeline(candidate.model, limits=image_limits(settings.images), metrics=metrics, clock=clock), known


def _instruments(seat: Seat | None) -> tuple[CollectorRegistry, Metrics]:
    """Gives what the HTTP port tells, and what counts."""
    if seat:
        seat.take()
        return seat.registry(), Metrics(CollectorRegistry())
    registry = CollectorRegistry()
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)
    return registry, Metrics(registry)


async def _ledger(url: str, stack: AsyncExitStack, metrics: Metrics) -> Ledger | None:
    if url == "off":
        return None
    try:
        return await stack.enter_async_context(
            Ledger.open(url, lost=metrics.ledger_rows_lost, backlog=metrics.ledger_backlog)
        )
    except LedgerUnavailable as exc:
        raise SettingsError([f"ledger.url: {exc}"]) from None


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
