"""Tells pictures apart by their pixels, decoding the same file once."""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from gateway.imaging.prepare import without_metadata
from gateway.singleflight import SingleFlight

if TYPE_CHECKING:
    from gateway.domain import SourceImage
    from gateway.imaging.prepare import Preparer
    from gateway.singleflight import IsLatest

# Files remembered, of some 300 bytes each.
_REMEMBERED: Final = 16_384
# From here on a file is hashed in a thread: at a third of a gigabyte a second or faster this takes 3 ms at most.
_LARGE_BYTES: Final = 1 << 20
# What everybody together waits for one image: more than the pool of decoders takes for one.
_TIMEOUT_S: Final = 30.0


class Digests:
    """The digests of pictures. Equal files that come at once are decoded once."""

    def __init__(self, preparer: Preparer) -> None:
        """*preparer* decodes."""
        self._preparer = preparer
        self._remembered: OrderedDict[bytes, bytes] = OrderedDict()
        self._decoding: SingleFlight[bytes] = SingleFlight()

    async def of(self, source: SourceImage) -> bytes:
        """Gives the SHA-256 of the upright pixels of *source* and of their colour profile.

        Raises `InvalidImage` where it cannot be decoded, `Overloaded` where too many images wait, and `Draining`.
        """
        large = len(source.data) > _LARGE_BYTES
        file = await asyncio.to_thread(_of_file, source) if large else _of_file(source)
        if file in self._remembered:
            self._remembered.move_to_end(file)
            return self._remembered[file]

        async def decode(_: IsLatest) -> bytes:
            return await self._preparer.digest(source, timeout_s=_TIMEOUT_S)

        decoded, _ = self._decoding.join(file, decode)
        found = await decoded
        self._remembered[file] = found
        if len(self._remembered) > _REMEMBERED:
            self._remembered.popitem(last=False)
        return found


def _of_file(source: SourceImage) -> bytes:
    # Which side is up stands in the metadata.
    found = hashlib.sha256(f"{source.media_type} {source.orientation} ".encode())
    for part in without_metadata(source):
        found.update(part)
    return found.digest()
