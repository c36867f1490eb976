"""What the gateway is while one reading of its settings holds, and how the next one takes its place."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING, Self

import structlog

from gateway.compose import door as doors, principals
from gateway.compose.leases import Leases
from gateway.compose.listing import listing
from gateway.compose.model import open_endpoint, open_model
from gateway.compose.routing import open_routing
from gateway.errors import Forbidden
from gateway.imaging import Limits
from gateway.pipeline import Pipeline
from gateway.server import methods
from gateway.server.service import Serving
from gateway.server.tls import Certificates

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType

    from gateway.backends import Backend
    from gateway.compose.door import Door
    from gateway.compose.model import Shared
    from gateway.compose.plan import Plan
    from gateway.compose.principals import Counted
    from gateway.policies import Candidate, Model
    from gateway.server.identity import Credentials
    from gateway.settings import ImageSettings, Settings

MIB = 1 << 20
_MEGA = 1_000_000

_log = structlog.get_logger()


def image_limits(images: ImageSettings) -> Limits:
    """Gives what is taken of images."""
    return Limits(
        max_bytes=images.max_mib * MIB,
        max_pixels=round(images.max_megapixels * _MEGA),
        max_webp_pixels=round(images.max_megapixels_webp * _MEGA),
        max_side_px=images.max_side_px,
        formats=images.formats,
    )


class Generation:
    """One reading of the settings in use: each call that begins enters it, and leaves it at its end."""

    def __init__(
        self,
        settings: Settings,
        plans: Mapping[str, Plan],
        models: Mapping[str, Model],
        door: Door,
        serving: Serving,
        stack: AsyncExitStack,
    ) -> None:
        """*stack* closes what it has open, and is closed with it."""
        self.settings = settings
        self.plans = plans
        self.models = models
        self.door = door
        self.serving = serving
        self._stack = stack
        self._calls = 0
        self._is_over = False
        self._unused = asyncio.Event()

    def __enter__(self) -> Serving:
        self._calls += 1
        return self.serving

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._calls -= 1
        self._look_whether_unused()

    async def end(self) -> None:
        """Closes what it has open as soon as its last call has ended; no call may enter it any more."""
        self._is_over = True
        self._look_whether_unused()
        await self._unused.wait()
        await self._stack.aclose()

    def abandon(self) -> None:
        """Lets it end whatever calls are left; for when the process does."""
        self._unused.set()

    def _look_whether_unused(self) -> None:
        if self._is_over and not self._calls:
            self._unused.set()


class Generations:
    """The generation that new calls enter, and those before it that still have calls."""

    def __init__(self, shared: Shared, counted: Counted) -> None:
        """Opens nothing yet."""
        self._shared = shared
        self._counted = counted
        self._backends: Leases[Backend] = Leases()
        self._models: Leases[Candidate] = Leases(gone=shared.metrics.forget_model)
        # None where the ports are in plain text.
        self.certificates: Certificates | None = None
        self._now: Generation | None = None
        self._ending: dict[asyncio.Task[None], Generation] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes what any of them has open; there are no more calls."""
        if self._now:
            self._retire(self._now)
        for generation in self._ending.values():
            generation.abandon()
        await asyncio.gather(*self._ending, return_exceptions=True)

    @property
    def now(self) -> Generation:
        """The one that calls enter now; there must be one."""
        if self._now is None:
            raise RuntimeError("no generation was entered")
        return self._now

    def check_scrape(self, given: Credentials) -> None:
        """Raises `Unauthenticated` or `Forbidden` unless the metrics may be read with the credentials *given*."""
        allowed = self.now.settings.server.metrics_principals
        if allowed and self.now.serving.turnstile.principal(given) not in allowed:
            raise Forbidden("you may not read the metrics", metadata={"rule": "metrics_principals"})

    async def open(self, settings: Settings, plans: Mapping[str, Plan]) -> Generation:
        """Makes one, which no call enters yet; models whose plans are in use already are shared with those who do.

        Raises `SettingsError` with every problem of the files of the door.
        """
        shared = self._shared
        door = await asyncio.to_thread(doors.read, settings)
        async with AsyncExitStack() as stack:
            for plan in plans.values():
                # First: where one cannot be opened, the metrics show nothing of models that are not in use.
                await stack.enter_async_context(self._backend(plan))
            candidates = {
                name: await stack.enter_async_context(self._models.lease(name, plan, partial(self._model, plan)))
                for name, plan in plans.items()
            }
            model, route = open_routing(settings, candidates, shared, stack)
            pipeline, pinned = (
                Pipeline(
                    outermost,
                    limits=image_limits(settings.images),
                    metrics=shared.metrics,
                    clock=shared.clock,
                    held=shared.held,
                )
                for outermost in (model, route)
            )
            serving = Serving(
                methods.bind(shared.tasks, pipeline, pinned, route, listing(settings, plans, candidates, shared)),
                principals.turnstile(settings, door.identity, self._counted, shared.metrics),
                settings.server,
                door.rights,
            )
            models = {name: candidate.model for name, candidate in candidates.items()}
            return Generation(settings, plans, models, door, serving, stack.pop_all())

    def enter(self, generation: Generation) -> None:
        """From now on calls enter *generation*; the one before ends with its last call."""
        before, self._now = self._now, generation
        if material := generation.door.tls:
            if self.certificates:
                self.certificates.hold(material)
            else:
                self.certificates = Certificates(material, self._shared.metrics)
        self._counted.limit(generation.settings)
        if self._shared.held:
            images = generation.settings.images
            self._shared.held.limit(most_bytes=images.held_mib * MIB, held_s=images.held_s)
        if before:
            self._retire(before)

    async def _model(self, plan: Plan, stack: AsyncExitStack) -> Candidate:
        backend = await stack.enter_async_context(self._backend(plan))
        return await open_model(plan, self._shared, stack, backend=backend)

    def _backend(self, plan: Plan) -> AbstractAsyncContextManager[Backend]:
        # Apart from the model, so that a new price or limit closes no connection.
        return self._backends.lease(
            plan.name,
            (plan.settings.kind, plan.options, plan.files),
            partial(open_endpoint, plan, self._shared.metrics),
        )

    def _retire(self, generation: Generation) -> None:
        ending = asyncio.create_task(generation.end())
        self._ending[ending] = generation
        ending.add_done_callback(self._ended)

    def _ended(self, ending: asyncio.Task[None]) -> None:
        del self._ending[ending]
        if not ending.cancelled() and (exc := ending.exception()):
            _log.error("closing_failed", exc_info=exc)
