"""Holds the images that were sent a short while ago, so that who sent one may name it instead of sending it again."""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.domain import Clock

# What an image costs besides its bytes, so that very many very small ones are bounded too.
_RECORD_BYTES: Final = 512
# From here on images are hashed in a thread: at a third of a gigabyte a second or faster this takes 1 ms at most.
_LARGE_BYTES: Final = 1 << 18


@dataclass(slots=True, eq=False)
class _Image:
    """One image of one principal; its digest is None until somebody asks for one."""

    principal: str
    data: bytes
    since: float
    digest: bytes | None = None


class HeldImages:
    """A bounded store of images in memory, each for its principal alone.

    Images are kept as they come, and hashed only once their principal names one by its digest: for those who never do,
    this costs a few microseconds an image, and memory. Where there is no room, those not used for longest go first.
    """

    def __init__(self, *, clock: Clock, changed: Callable[[int], None] = lambda _: None) -> None:
        """Holds nothing until `limit` is called; *changed* is told the bytes held, records included."""
        self._clock = clock
        self._changed = changed
        self._most_bytes = 0
        self._held_s = 0.0
        self._images: OrderedDict[_Image, None] = OrderedDict()
        self._bytes = 0
        self._by_digest: dict[tuple[str, bytes], _Image] = {}
        self._unhashed: dict[str, dict[_Image, None]] = {}
        # So that many who ask at once hash each image once.
        self._hashing = asyncio.Lock()

    def limit(self, *, most_bytes: int, held_s: float) -> None:
        """Holds from now on at most *most_bytes*, 0 for no images, and each for *held_s* seconds after its last use."""
        self._most_bytes = most_bytes
        self._held_s = held_s
        self.expire()

    def hold(self, principal: str, data: bytes) -> None:
        """Holds *data*, an encoded image that *principal* sent, unless there is no room for so large a one."""
        if len(data) + _RECORD_BYTES > self._most_bytes:
            return
        image = _Image(principal, data, self._clock())
        self._images[image] = None
        self._unhashed.setdefault(principal, {})[image] = None
        self._bytes += len(data) + _RECORD_BYTES
        self.expire()

    async def find(self, principal: str, digest: bytes) -> bytes | None:
        """Gives the image whose SHA-256 is *digest*; None unless *principal* sent it, and it is still held."""
        self.expire()
        if (principal, digest) not in self._by_digest:
            async with self._hashing:
                await self._hash(principal, digest)
        image = self._by_digest.get((principal, digest))
        if image is None:
            return None
        image.since = self._clock()
        self._images.move_to_end(image)
        return image.data

    def expire(self) -> None:
        """Lets go of what was held for long enough, and of what there is no room for."""
        oldest = self._clock() - self._held_s
        while self._images:
            image = next(iter(self._images))
            if image.since > oldest and self._bytes <= self._most_bytes:
                break
            self._drop(image)
        self._changed(self._bytes)

    async def watch(self, interval_s: Callable[[], float]) -> None:
        """Does so every *interval_s* seconds, forever: nothing stays for longer because nobody calls."""
        while True:
            await asyncio.sleep(interval_s())
            self.expire()

    async def _hash(self, principal: str, wanted: bytes) -> None:
        # The latest first: it is the one that is named, most of the time.
        images = [*reversed(self._unhashed.get(principal, {}))]
        large = sum(len(image.data) for image in images) > _LARGE_BYTES
        digests = await asyncio.to_thread(_digests, images, wanted) if large else _digests(images, wanted)
        for image, digest in zip(images, digests, strict=False):
            if image not in self._images:
                continue  # It had to go meanwhile.
            same = self._by_digest.get((principal, digest))
            if same and same.since >= image.since:
                self._drop(image)
                continue
            if same:
                self._drop(same)
            self._forget_unhashed(image)
            image.digest = digest
            self._by_digest[principal, digest] = image

    def _drop(self, image: _Image) -> None:
        del self._images[image]
        self._bytes -= len(image.data) + _RECORD_BYTES
        if image.digest is None:
            self._forget_unhashed(image)
        else:
            del self._by_digest[image.principal, image.digest]

    def _forget_unhashed(self, image: _Image) -> None:
        unhashed = self._unhashed[image.principal]
        del unhashed[image]
        if not unhashed:
            del self._unhashed[image.principal]


def _digests(images: list[_Image], wanted: bytes) -> list[bytes]:
    """Gives the digests of *images* up to the one that is *wanted*."""
    found: list[bytes] = []
    for image in images:
        found.append(hashlib.sha256(image.data).digest())
        if found[-1] == wanted:
            break
    return found
