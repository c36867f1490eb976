"""Where a running gateway's settings come from, and what shows that they may have changed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Collection, Iterable, Mapping
    from pathlib import Path

    from gateway.settings import Settings

Trigger: TypeAlias = Literal["signal", "file"]
# Where a path leads, and inode, time of change in ns and size in bytes of what is there; None where nothing is.
Stamp: TypeAlias = tuple[str, int, int, int] | None


class Source:
    """Where the settings come from. *asked* is set when they are to be read again."""

    def __init__(self, load: Callable[[], Settings], path: Path | None = None, *, interval_s: float = 1.0) -> None:
        """*load* reads all of them, in a thread, and raises `SettingsError`; *path* is their file, None for none.

        To be made before they are read for the first time, so that no change is missed. Files are looked at every
        *interval_s* seconds.
        """
        self.load = load
        self.asked = asyncio.Event()
        self._paths = [path] if path else []
        self._interval_s = interval_s
        self._first = stamps(self._paths)

    def note(self, others: Iterable[Path]) -> None:
        """Compares *others* too with what they are now, and not at the first look."""
        self._first |= stamps(others)

    async def triggers(self, others: Callable[[], Collection[Path]], *, watch: bool) -> AsyncGenerator[Trigger]:
        """Tells each time that the settings are to be read again: asked to, and with *watch* because a file changed.

        *others* are further files that count. Links are followed, since that of a Kubernetes volume is what changes. A
        change counts once the files are the same at two looks: half a file can be in order too, and say less.
        """

        async def look() -> dict[Path, Stamp]:
            return await asyncio.to_thread(stamps, [*self._paths, *others()]) if watch else {}

        files = Settled(self._first)
        while True:
            asked = await self._asked()
            # Seen before the settings are read, so that what changes meanwhile is seen by the next look.
            changed = files.changed(await look())
            if asked:
                files.known()
                yield "signal"
            elif changed:
                yield "file"

    async def _asked(self) -> bool:
        try:
            async with asyncio.timeout(self._interval_s):
                await self.asked.wait()
        except TimeoutError:
            return False
        self.asked.clear()
        return True


class Settled:
    """Tells when files have changed, and are done with it."""

    def __init__(self, now: Mapping[Path, Stamp]) -> None:
        """Compares with *now*."""
        self._known = self._last = now

    def changed(self, now: Mapping[Path, Stamp]) -> bool:
        """Tells whether files are other than those known, and the same as at the last look; then they are known.

        A file that was not looked at before is known from now on.
        """
        differ = any(stamp != self._known.get(path, stamp) for path, stamp in now.items())
        changed = differ and now == self._last
        self._known = now if changed else {path: self._known.get(path, stamp) for path, stamp in now.items()}
        self._last = now
        return changed

    def known(self) -> None:
        """Takes the files as they were at the last look for known."""
        self._known = self._last


def stamps(paths: Iterable[Path]) -> dict[Path, Stamp]:
    """Gives what shows that a file is another than before, by its path."""
    return {path: _stamp(path) for path in paths}


def _stamp(path: Path) -> Stamp:
    try:
        target = path.resolve()
        found = target.stat()
    except OSError:
        return None
    return str(target), found.st_ino, found.st_mtime_ns, found.st_size
