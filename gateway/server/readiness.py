"""Knows which models can be asked, by looking at them again and again."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gateway.metrics import Metrics
    from gateway.policies import Model

_log = structlog.get_logger()


class Readiness:
    """Whether the gateway can serve: while at least one model is ready, and until it drains."""

    def __init__(self, models: Mapping[str, Model], metrics: Metrics, *, longest_look_s: float = 5.0) -> None:
        """*models* by the names the operator gave them; none counts as ready before it was looked at.

        A model that has not said within *longest_look_s* seconds that it is ready, is not.
        """
        self._models = models
        self._metrics = metrics
        self._longest_look_s = longest_look_s
        self._ready = dict.fromkeys(models, False)
        self._draining = False
        self._next_change = asyncio.Event()

    @property
    def models(self) -> Mapping[str, bool]:
        """Whether each model is ready."""
        return self._ready

    @property
    def draining(self) -> bool:
        """Whether the gateway is shutting down."""
        return self._draining

    @property
    def serving(self) -> bool:
        """Whether a call would find somebody to answer it."""
        return not self._draining and any(self._ready.values())

    def drain(self) -> None:
        """Stops serving for good."""
        self._draining = True
        self._announce()

    @property
    def next_change(self) -> asyncio.Event:
        """Is set as soon as something is different from now."""
        return self._next_change

    async def look(self) -> None:
        """Asks every model once, all at the same time."""
        async with asyncio.TaskGroup() as group:
            for name, model in self._models.items():
                group.create_task(self._look_at(name, model))

    async def watch(self, interval_s: Callable[[], float]) -> None:
        """Looks again *interval_s* seconds after each look, forever."""
        while True:
            await self.look()
            await asyncio.sleep(interval_s())

    async def ask(self, models: Mapping[str, Model]) -> dict[str, bool]:
        """Tells which of *models* are ready; those that are watched anyhow are left out."""
        new = {name: model for name, model in models.items() if self._models.get(name) is not model}
        ready = await asyncio.gather(*(self._ask(name, model) for name, model in new.items()))
        return dict(zip(new, ready, strict=True))

    def change(self, models: Mapping[str, Model], ready: Mapping[str, bool]) -> None:
        """Watches *models* from now on; *ready* is what `ask` told of them, so that none seems gone in between."""
        before, self._models = self._models, models
        self._ready = {name: self._ready.get(name, False) for name in models}
        for name, model in models.items():
            if before.get(name) is not model:
                self._note(name, ready=ready[name])
        self._announce()

    async def _look_at(self, name: str, model: Model) -> None:
        ready = await self._ask(name, model)
        if self._models.get(name) is model:
            self._note(name, ready=ready)

    async def _ask(self, name: str, model: Model) -> bool:
        try:
            async with asyncio.timeout(self._longest_look_s):
                return await model.ready()
        except TimeoutError:
            return False
        except Exception as exc:  # noqa: BLE001  a bug in one adapter must not end the watch over all
            _log.error("readiness_check_failed", model=name, exc_info=exc)
            return False

    def _note(self, name: str, *, ready: bool) -> None:
        self._metrics.model_ready(name, ready=ready)
        if ready != self._ready[name]:
            self._ready[name] = ready
            _log.info("model_ready" if ready else "model_not_ready", model=name)
            self._announce()

    def _announce(self) -> None:
        changed, self._next_change = self._next_change, asyncio.Event()
        changed.set()
