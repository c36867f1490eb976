"""What was made of images, for as long as the calls that brought them last."""

from __future__ import annotations

import asyncio
import weakref
from functools import partial
from typing import TYPE_CHECKING

from gateway.errors import DeadlineExceeded
from gateway.singleflight import SingleFlight

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable

    from gateway.domain import SentImage, SourceImage


class Made:
    """Makes each picture of an image once, however many models and tasks of a call want it, and however close."""

    def __init__(self) -> None:
        """Nothing is made yet."""
        # By identity: to compare images would be to read all of their bytes.
        self._made: dict[int, dict[Hashable, SentImage]] = {}
        self._making: SingleFlight[SentImage] = SingleFlight()

    async def of(
        self, source: SourceImage, form: Hashable, make: Callable[[float], Awaitable[SentImage]], *, timeout_s: float
    ) -> SentImage:
        """Gives the picture of *source* in *form*, which *make* makes within the seconds that it is given.

        Raises what *make* raises, the same to everybody who waits for it, but `DeadlineExceeded` only to those whose
        own *timeout_s* are over. Failures are not kept.
        """
        made = self._pictures_of(source)
        now = asyncio.get_running_loop().time
        ends = now() + timeout_s

        async def work(_: object) -> SentImage:
            return await make(ends - now())

        while form not in made:
            waiting, leads = self._making.join((id(source), form), work)
            try:
                # Who makes it keeps time itself, and knows where it went.
                async with asyncio.timeout_at(None if leads else ends):
                    made[form] = await waiting
            except TimeoutError:
                raise DeadlineExceeded("the time was up before the image was decoded") from None
            except DeadlineExceeded:
                if leads:
                    raise
        return made[form]

    def _pictures_of(self, source: SourceImage) -> dict[Hashable, SentImage]:
        key = id(source)
        if key not in self._made:
            self._made[key] = {}
            weakref.finalize(source, partial(self._made.pop, key, None)).atexit = False
        return self._made[key]
