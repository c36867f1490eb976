"""Where a running gateway's settings come from, and what shows that they may have changed."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Collection, Iterable
    from pathlib import Path

    from gateway.settings import Settings

Trigger: TypeAlias = Literal["signal", "file"]
# Where a path leads, and inode, time of change in ns and size in bytes of what is there; None where nothing is.
_Stamp: TypeAlias = tuple[str, int, int, int] | None


@dataclass(frozen=True, slots=True)
class Source:
    """Where the settings come from.

    *load* reads all of them again, in a thread, and raises `SettingsError`; *path* is their file, None where there is
    none. *asked* is set when they are to be read again; files are looked at every *interval_s* seconds.
    """

    load: Callable[[], Settings]
    path: Path | None = None
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    interval_s: float = 1.0

    async def triggers(self, others: Callable[[], Collection[Path]], *, watch: bool) -> AsyncGenerator[Trigger]:
        """Tells each time that the settings are to be read again: asked to, and with *watch* because a file changed.

        *others* are further files that count. Links are followed, since that of a Kubernetes volume is what changes. A
        change counts once the files are the same at two looks: half a file can be in order too, and say less.
        """

        async def look() -> dict[Path, _Stamp]:
            own = [self.path] if self.path else []
            return await asyncio.to_thread(_stamps, [*own, *others()]) if watch else {}

        known = last = await look()
        while True:
            asked = await self._asked()
            now = await look()
            # Read below, so that what changes meanwhile is seen by the next look.
            if asked:
                known = now
                yield "signal"
            elif now == last and _differs(now, known):
                known = now
                yield "file"
            else:
                # Files that were not looked at before have not changed.
                known = now | {path: stamp for path, stamp in known.items() if path in now}
            last = now

    async def _asked(self) -> bool:
        try:
            async with asyncio.timeout(self.interval_s):
                await self.asked.wait()
        except TimeoutError:
            return False
        self.asked.clear()
        return True


def _differs(now: dict[Path, _Stamp], known: dict[Path, _Stamp]) -> bool:
    return any(stamp != known.get(path, stamp) for path, stamp in now.items())


def _stamps(paths: Iterable[Path]) -> dict[Path, _Stamp]:
    return {path: _stamp(path) for path in paths}


def _stamp(path: Path) -> _Stamp:
    try:
        target = path.resolve()
        found = target.stat()
    except OSError:
        return None
    return str(target), found.st_ino, found.st_mtime_ns, found.st_size
