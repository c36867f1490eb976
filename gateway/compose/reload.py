"""Takes on new settings while calls go on: all of them, or none and why."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Literal, TypeAlias

import structlog

from gateway.compose import door as doors
from gateway.compose.changes import changes, needs_restart
from gateway.compose.plan import plans
from gateway.server import log
from gateway.settings import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gateway.compose.generation import Generation, Generations
    from gateway.compose.plan import Plan
    from gateway.compose.source import Source, Trigger
    from gateway.metrics import Metrics
    from gateway.server.admission import Admission
    from gateway.server.readiness import Readiness
    from gateway.settings import Settings

Outcome: TypeAlias = Literal["applied", "refused", "unchanged"]

_log = structlog.get_logger()


class Reload:
    """Reads the settings again, checks them as a start does, and puts them in the place of those in use at once."""

    def __init__(
        self,
        source: Source,
        *,
        generations: Generations,
        readiness: Readiness,
        admission: Admission,
        metrics: Metrics,
        now: Callable[[], float],
    ) -> None:
        """*generations* has the one that the process began with; *now* is a wall clock, in Unix time."""
        self._source = source
        self._generations = generations
        self._readiness = readiness
        self._admission = admission
        self._metrics = metrics
        self._now = now
        self._first = generations.now.settings
        source.note(self._files())
        metrics.settings_applied(now())

    async def follow(self) -> None:
        """Does so whenever the source says, forever."""
        reload = self._first.server.reload
        if reload == "off":
            return
        async for trigger in self._source.triggers(self._files, watch=reload == "auto"):
            await self.once(trigger)

    async def once(self, trigger: Trigger) -> Outcome:
        """Does so now, and writes down what came of it; never raises."""
        try:
            changed = await self._apply()
        except SettingsError as exc:
            return self._refused(trigger, exc.problems)
        except OSError as exc:
            # What only shows when it is opened, such as a key's file.
            return self._refused(trigger, [f"{exc.filename or 'a model'}: {exc.strerror or type(exc).__name__}"])
        except Exception as exc:  # noqa: BLE001  whatever it is, the gateway goes on as it was
            _log.error("bug", exc_info=exc)
            return self._refused(trigger, [f"they cannot be taken on: {type(exc).__name__}"])
        outcome: Outcome = "applied" if changed else "unchanged"
        self._metrics.settings_reload(outcome)
        _log.info("settings_reload", trigger=trigger, outcome=outcome, changed=changed)
        return outcome

    async def _apply(self) -> dict[str, str]:
        """Gives what changed, by dotted name."""
        before = self._generations.now
        settings, found, files = await asyncio.to_thread(self._read)
        changed = changes(before.settings, settings) | _other_files(before, found) | _other_door(before, files)
        if problems := needs_restart(changed, self._first, settings):
            raise SettingsError(problems)
        if not changed:
            return {}
        generation = await self._generations.open(settings, found)
        try:
            # Now, so that nobody sees the gateway without models that are ready as soon as they are looked at.
            ready = await self._readiness.ask(generation.models)
        except BaseException:
            await generation.end()
            raise
        # Nothing waits from here on, so that no call comes in between.
        self._readiness.change(generation.models, ready)
        self._generations.enter(generation)
        self._admission.resize(settings.server.max_inflight)
        if settings.server.log_level != before.settings.server.log_level:
            log.set_level(settings.server.log_level)
        self._metrics.settings_applied(self._now())
        return changed

    def _read(self) -> tuple[Settings, dict[str, Plan], dict[Path, str]]:
        settings = self._source.load()
        return settings, plans(settings), doors.files(settings)

    def _files(self) -> list[Path]:
        now = self._generations.now
        return [*now.door.files, *(path for plan in now.plans.values() for path in plan.files)]

    def _refused(self, trigger: Trigger, problems: list[str]) -> Outcome:
        self._metrics.settings_reload("refused")
        _log.error("settings_reload", trigger=trigger, outcome="refused", problems=problems)
        return "refused"


def _other_files(before: Generation, found: dict[str, Plan]) -> dict[str, str]:
    """Names the models whose files, such as a key's, have other contents than when they were opened."""
    kept = before.plans.keys() & found.keys()
    return {
        f"models.{name} (the contents of {path})": "changed"
        for name in sorted(kept)
        for path, digest in found[name].files.items()
        if before.plans[name].files.get(path, digest) != digest
    }


def _other_door(before: Generation, files: dict[Path, str]) -> dict[str, str]:
    """Names the files of the door, such as a certificate, that have other contents than when they were read."""
    known = before.door.files
    return {
        f"the door (the contents of {path})": "changed"
        for path, digest in files.items()
        if known.get(path, digest) != digest
    }
