"""Keeps open what one reading of the settings and the next have in common."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

_T = TypeVar("_T")


@dataclass(slots=True)
class _Held(Generic[_T]):
    name: str
    made_of: object
    thing: _T
    stack: AsyncExitStack
    holders: int = 0


class Leases(Generic[_T]):
    """Things that several may hold at once: each is opened for its first holder and closed after its last one."""

    def __init__(self, gone: Callable[[str], None] = lambda _: None) -> None:
        """*gone* is told each name that nobody holds anything of any more."""
        self._held: list[_Held[_T]] = []
        self._gone = gone

    @asynccontextmanager
    async def lease(
        self, name: str, made_of: object, opened: Callable[[AsyncExitStack], Awaitable[_T]]
    ) -> AsyncGenerator[_T]:
        """Gives the thing of *name* that was made of what is equal to *made_of*.

        Unless there is one, *opened* opens it; it closes when its stack ends. Not for two at once to begin with.
        """
        held = next((each for each in self._held if each.name == name and each.made_of == made_of), None)
        if held is None:
            async with AsyncExitStack() as stack:
                held = _Held(name, made_of, await opened(stack), stack.pop_all())
            self._held.append(held)
        held.holders += 1
        try:
            yield held.thing
        finally:
            held.holders -= 1
            if not held.holders:
                # First, so that nobody comes to hold what is about to close.
                self._held = [each for each in self._held if each is not held]
                try:
                    await held.stack.aclose()
                finally:
                    if not any(each.name == name for each in self._held):
                        self._gone(name)
