"""An event loop on which time passes only where everybody waits for it."""

from __future__ import annotations

import asyncio
import selectors
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor
    from selectors import SelectorKey

_T = TypeVar("_T")


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

    Work for other threads is done at once, in this one, and takes no time; nothing else may wait for the world outside.
    """

    def __init__(self) -> None:
        """Opens the loop; `asyncio.Runner` takes the class as its `loop_factory`."""
        self._jump = _Jump()
        super().__init__(self._jump)

    def time(self) -> float:
        """Gives the virtual seconds since the loop was made."""
        return self._jump.now_s

    def run_in_executor(self, executor: Executor | None, func: Callable[..., _T], *args: object) -> asyncio.Future[_T]:
        """Calls *func* at once, so that equal simulations stay equal."""
        done: asyncio.Future[_T] = self.create_future()
        try:
            done.set_result(func(*args))
        except Exception as exc:  # noqa: BLE001  it is raised where the future is awaited
            done.set_exception(exc)
        return done
