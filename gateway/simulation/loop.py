"""An event loop on which time passes only where everybody waits for it."""

from __future__ import annotations

import asyncio
import selectors
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from selectors import SelectorKey


class _NobodyWakes(RuntimeError):
    """Every task waits, and for no timer: time alone brings none of them on."""


class _Jump(selectors.SelectSelector):
    """Where nothing is ready, moves the time on in place of waiting."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[SelectorKey, int]]:
        ready = super().select(0)
        if not ready and timeout is None:
            raise _NobodyWakes("every task waits for something other than time")
        if not ready and timeout:
            self.now_s += timeout
        return ready


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Starts at 0 s, and jumps to the next timer once no task has anything left to do; so nobody ever sleeps.

    Work in threads and on sockets takes no time on it: only what is a matter of tasks and timers is simulated truly.
    """

    def __init__(self) -> None:
        """Opens the loop; `asyncio.Runner` takes the class as its `loop_factory`."""
        self._jump = _Jump()
        super().__init__(self._jump)

    def time(self) -> float:
        """Gives the virtual seconds since the loop was made."""
        return self._jump.now_s
