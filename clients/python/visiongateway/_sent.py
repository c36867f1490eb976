"""Sends images that the gateway has had lately by their digest alone."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from threading import Lock

from google.protobuf.message import Message

from visiongateway._errors import VisionError
from visiongateway.v1.image_pb2 import Image

# Below this, a digest that turns out to be unknown costs more than it can save.
_SMALL_BYTES = 16 * 1024
# From here on images are hashed in a thread of their own by the asyncio client: a few milliseconds.
_LARGE_BYTES = 1024 * 1024
# Somewhat less than a gateway holds an image for, unless its operator says otherwise.
_REMEMBERED_S = 45.0
_MOST = 1024
_PACKAGE = "visiongateway.v1"


@dataclass(slots=True)
class Sending:
    """How the images of one request travel: those in *named* by their digests, with their bytes kept here."""

    sent: SentImages
    named: list[tuple[Image, bytes, bytes]] = field(default_factory=list)
    whole: list[bytes] = field(default_factory=list)

    def answered(self) -> None:
        """Notes that the gateway has the images now."""
        self.sent.remember([*self.whole, *(digest for _, _, digest in self.named)])

    def again(self, failure: VisionError) -> bool:
        """Tells whether *failure* wants the images whole; then the request has them whole.

        These are not remembered: another replica may answer the new try than the next call.
        """
        if failure.reason == "UNKNOWN_DIGEST" and self.named:
            for image, data, digest in self.named:
                image.data = data
                self.sent.forget(digest)
            self.named = []
            return True
        if failure.model:  # Then the images were read.
            self.answered()
        return False


class SentImages:
    """Remembers the digests of images that were sent to one target lately. Safe to share between threads."""

    def __init__(self, *, hold_images: bool, clock: Callable[[], float] = time.monotonic) -> None:
        """Without *hold_images* every image travels whole."""
        self._hold_images = hold_images
        self._clock = clock
        self._sent: OrderedDict[bytes, float] = OrderedDict()
        self._lock = Lock()

    def sending(self, request: Message) -> Sending:
        """Puts digests in place of the images of *request* that the gateway should still have."""
        sending = Sending(self)
        for image in images_in(request) if self._hold_images else ():
            if image.HasField("data") and image.ByteSize() > _SMALL_BYTES:
                data = image.data
                digest = hashlib.sha256(data).digest()
                if self._knows(digest):
                    image.digest = digest
                    sending.named.append((image, data, digest))
                else:
                    sending.whole.append(digest)
        return sending

    async def sending_async(self, request: Message) -> Sending:
        """Does as `sending`, in a thread where it takes long."""
        if self._hold_images and request.ByteSize() > _LARGE_BYTES:
            return await asyncio.to_thread(self.sending, request)
        return self.sending(request)

    def remember(self, digests: list[bytes]) -> None:
        """Notes that the gateway has the images of *digests* now."""
        with self._lock:
            for digest in digests:
                self._sent[digest] = self._clock()
                self._sent.move_to_end(digest)
            while len(self._sent) > _MOST:
                self._sent.popitem(last=False)

    def forget(self, digest: bytes) -> None:
        """Notes that a gateway does not have it."""
        with self._lock:
            self._sent.pop(digest, None)

    def _knows(self, digest: bytes) -> bool:
        with self._lock:
            return self._clock() - self._sent.get(digest, float("-inf")) < _REMEMBERED_S


def images_in(message: Message) -> Iterator[Image]:
    """Gives every image in *message*, those of the requests in it too."""
    for each, value in message.ListFields():
        if each.message_type is None or each.message_type.file.package != _PACKAGE:
            continue
        for inner in value if each.is_repeated else (value,):
            if isinstance(inner, Image):
                yield inner
            else:
                yield from images_in(inner)
