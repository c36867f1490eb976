"""Makes of a checked image what a model takes: the same bytes without metadata where that will do, else new ones."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final, Self

import structlog

from gateway.domain import ImagePlan, SentImage
from gateway.errors import InvalidImage
from gateway.imaging.frames import Job
from gateway.imaging.limits import Flaw
from gateway.imaging.made import Made
from gateway.imaging.pool import Pool

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from gateway.domain import SourceImage
    from gateway.imaging.frames import Encoding, Reply

_log = structlog.get_logger(__name__)

_FORMATS: Final = {"image/jpeg": "JPEG", "image/png": "PNG", "image/webp": "WEBP", "image/gif": "GIF"}
_MEDIA_TYPES: Final[dict[Encoding, str]] = {"JPEG": "image/jpeg", "PNG": "image/png"}
_LOSSLESS: Final = frozenset({"image/png", "image/gif"})
# What a lossless file of text, diagrams and screens stays below, and one of a photograph does not.
_DRAWN_BYTES_PER_PIXEL: Final = 0.5


class Preparer:
    """Prepares images, in processes of its own wherever pixels are touched; an async context manager.

    Pixels are touched only where the size, the orientation, an animation, transparency, or a form that not every
    decoder knows (CMYK, 16 bits) demand it. The new picture is upright, its first frame laid over white, 8 bits a
    channel and without metadata but its colour profile. It is PNG where the source was lossless and of
    drawings rather than photographs (at most half a byte a pixel), else JPEG of quality 90 without chroma subsampling,
    which would blur coloured text.
    """

    def __init__(
        self,
        *,
        workers: int = 2,
        max_waiting: int = 64,
        timeout_s: float = 5.0,
        memory_bytes: int = 1 << 30,
        jobs_per_worker: int = 256,
    ) -> None:
        """*workers* processes at most; *timeout_s* and *memory_bytes* of address space are what an image may take.

        Beyond *max_waiting* images in line, more are refused. A process is replaced after *jobs_per_worker* images.
        """
        self._pool = Pool(
            workers=workers,
            max_waiting=max_waiting,
            timeout_s=timeout_s,
            memory_bytes=memory_bytes,
            jobs_per_worker=jobs_per_worker,
        )
        self._made = Made()

    async def __aenter__(self) -> Self:
        """Starts the first process, the others when they are needed; each has some 17 MB resident at rest."""
        await self._pool.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Kills the processes."""
        await self._pool.stop()

    async def prepare(
        self, source: SourceImage, plan: ImagePlan, *, media_types: frozenset[str], timeout_s: float
    ) -> SentImage:
        """Makes of *source* a picture of the size in *plan*, in one of *media_types* (JPEG or PNG among them).

        The same one is made once, and kept as long as *source* is. Raises `InvalidImage` with the limit `decode` or
        `complexity`; `DeadlineExceeded` after *timeout_s*; `Overloaded` where too many images wait, `Draining` after
        the end. Cancelling it ends the work unless others wait for the same.
        """
        fits = (
            (source.width_px, source.height_px) == (plan.width_px, plan.height_px)
            and source.orientation == 1
            and not source.animated
            and source.media_type in media_types
        )
        if fits and source.plain:
            return SentImage(_stripped(source), source.media_type, plan)
        make = partial(self._make, source, plan, media_types, fits=fits)
        return await self._made.of(source, (plan, media_types), make, timeout_s=timeout_s)

    async def _make(
        self, source: SourceImage, plan: ImagePlan, media_types: frozenset[str], timeout_s: float, *, fits: bool
    ) -> SentImage:
        data = _stripped(source)
        encoding = _encoding(source, media_types)
        job = replace(_job(source, plan, encoding), keep_opaque=fits)
        reply, picture = await self._run(job, source, data, timeout_s)
        if reply.outcome == "kept":
            return SentImage(data, source.media_type, plan)
        return SentImage(picture, _MEDIA_TYPES[encoding], plan)

    async def digest(self, source: SourceImage, *, timeout_s: float) -> bytes:
        """Gives a SHA-256 that is the same for the same upright picture, whatever file it came in; decodes all of it.

        Raises like `prepare`.
        """
        as_it_is = ImagePlan(source.width_px, source.height_px, token_count=0)
        job = replace(_job(source, as_it_is, "PNG"), digest=True)
        _, found = await self._run(job, source, source.data, timeout_s)
        return found

    async def _run(self, job: Job, source: SourceImage, data: bytes, timeout_s: float) -> tuple[Reply, bytes]:
        try:
            reply, made = await self._pool.run(job, data, timeout_s=timeout_s)
            _check(reply)
        except Flaw as flaw:
            raise InvalidImage(str(flaw), limit=flaw.limit, field=source.field) from None
        return reply, made


def _stripped(source: SourceImage) -> bytes:
    return b"".join(without_metadata(source)) if source.parts else source.data


def without_metadata(source: SourceImage) -> Iterator[bytes | memoryview]:
    """Gives the file of *source* without metadata, in parts."""
    whole = memoryview(source.data)
    for part in source.parts or ((0, len(whole)),):
        yield part if isinstance(part, bytes) else whole[slice(*part)]


def _encoding(source: SourceImage, media_types: frozenset[str]) -> Encoding:
    is_lossless = source.media_type in _LOSSLESS or source.data.startswith(b"VP8L", 12)
    is_drawn = len(source.data) <= _DRAWN_BYTES_PER_PIXEL * source.width_px * source.height_px
    wanted: tuple[Encoding, ...] = ("PNG", "JPEG") if is_lossless and is_drawn else ("JPEG", "PNG")
    for encoding in wanted:
        if _MEDIA_TYPES[encoding] in media_types:
            return encoding
    raise ValueError("a model must take JPEG or PNG")


def _job(source: SourceImage, plan: ImagePlan, encoding: Encoding) -> Job:
    lying = source.orientation >= 5  # noqa: PLR2004  5 to 8 swap the axes (EXIF 2.3, tag 0x0112)
    return Job(
        source_format=_FORMATS[source.media_type],
        width_px=source.height_px if lying else source.width_px,
        height_px=source.width_px if lying else source.height_px,
        orientation=source.orientation,
        to_width_px=plan.width_px,
        to_height_px=plan.height_px,
        encoding=encoding,
    )


def _check(reply: Reply) -> None:
    if reply.cause:
        _log.info("image not decoded", outcome=reply.outcome, cause=reply.cause)
    if reply.outcome == "complexity":
        raise Flaw("complexity", "the image takes too much memory to decode; scale it down")
    if reply.outcome == "decode":
        raise Flaw("decode", "the image is damaged and cannot be decoded; save it again")
