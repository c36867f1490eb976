"""A decode worker: `python -m gateway.imaging.worker MEMORY_BYTES`, jobs on stdin, replies on stdout.

It imports Pillow and the standard library alone, holds no secret, and may be killed at any moment.
"""

from __future__ import annotations

import ctypes
import hashlib
import io
import resource
import signal
import struct
import sys
from typing import TYPE_CHECKING

# The plugins are imported before the first image, so that it finds its memory and time unspent.
from PIL import GifImagePlugin, Image, JpegImagePlugin, MpoImagePlugin, PngImagePlugin, WebPImagePlugin

from gateway.imaging.frames import PREFIX, READY, Job, Reply

if TYPE_CHECKING:
    from typing import BinaryIO

_PLUGINS = (GifImagePlugin, JpegImagePlugin, MpoImagePlugin, PngImagePlugin, WebPImagePlugin)
_PR_SET_PDEATHSIG = 1
# Seconds beyond a job's time, in which its gateway should have ended the worker.
_GRACE_S = 1.0

# From 3 on, Pillow's documentation calls the two-step resizing indistinguishable from the exact one.
_REDUCING_GAP = 3.0
# A JPEG decodes to a half, a quarter or an eighth of its size in its own terms. Left at least twice as large as what
# is wanted, a photograph of 12 megapixels costs 70 ms in place of 190, and coloured text comes out closer to the
# original than by way of the whole picture, whose chroma is stretched first.
_DRAFT_GAP = 2
_JPEG = {"quality": 90, "subsampling": "4:4:4"}
_PNG = {"compress_level": 3}

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIZE = struct.Struct("!II")
_WITH_ALPHA = frozenset({"LA", "La", "PA", "RGBA", "RGBa"})
# Profiles are kept where they fit the picture, and are of a size that profiles of screens and cameras have.
_PROFILE_SPACES = {"L": b"GRAY", "RGB": b"RGB "}
_MAX_PROFILE_BYTES = 1 << 18


def prepare(job: Job, data: bytes) -> tuple[Reply, bytes]:
    """Makes an upright, opaque, 8-bit picture of exactly the size asked for, without metadata but its colour profile.

    Transparency is laid over white; of an animation the first frame is taken. Raises whatever Pillow raises.
    """
    with _opened(job, data) as image:
        width, height = job.to_width_px, job.to_height_px
        if job.orientation >= 5:  # noqa: PLR2004  5 to 8 swap the axes (EXIF 2.3, tag 0x0112)
            width, height = height, width
        image.draft(None, (width * _DRAFT_GAP, height * _DRAFT_GAP))
        image.load()
        profile = image.info.get("icc_profile")
        picture = _eight_bits(image)
    if picture.mode in _WITH_ALPHA and picture.getextrema()[-1] == (255, 255):
        if job.keep_opaque:
            return Reply("kept"), b""
        picture = picture.convert("RGB" if picture.mode == "RGBA" else "L")
    picture = picture.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=_REDUCING_GAP)
    if picture.mode in _WITH_ALPHA:
        picture = _over_white(picture)
    if job.orientation in _UPRIGHT:
        picture = picture.transpose(_UPRIGHT[job.orientation])
    return Reply("done"), _encoded(picture, job.encoding, profile)


def digest(job: Job, data: bytes) -> bytes:
    """Gives a SHA-256 that is the same for the same upright picture, whatever file it came in.

    Of its size, its colour profile where one would be kept, and every pixel in 8-bit RGB, transparency laid over white.
    """
    with _opened(job, data) as image:
        image.load()
        profile = image.info.get("icc_profile")
        picture = _eight_bits(image)
    kept = profile if profile and _keeps(profile, picture) else b""
    picture = _over_white(picture) if picture.mode in _WITH_ALPHA else picture
    picture = picture.convert("RGB")
    if job.orientation in _UPRIGHT:
        picture = picture.transpose(_UPRIGHT[job.orientation])
    found = hashlib.sha256(_SIZE.pack(*picture.size) + hashlib.sha256(kept).digest())
    found.update(picture.tobytes())
    return found.digest()


def _opened(job: Job, data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data), formats=[job.source_format])
    if image.size != (job.width_px, job.height_px):
        raise ValueError("the decoder sees another size than the header check")
    return image


def _eight_bits(image: Image.Image) -> Image.Image:
    """Gives the picture as L, RGB, LA or RGBA."""
    if image.mode.startswith(("I", "F")):
        # 16-bit grey: Pillow's own conversion would clip all but the darkest 256 of its values to white.
        return image.point(lambda value: value * (1 / 257)).convert("L")
    if image.has_transparency_data:
        return image.convert("LA" if image.mode in {"L", "LA", "La", "1"} else "RGBA")
    return image.convert("L" if image.mode in {"L", "1"} else "RGB")


def _over_white(image: Image.Image) -> Image.Image:
    picture = image.convert("RGBA")
    white = Image.new("RGBA", picture.size, "white")
    white.alpha_composite(picture)
    return white.convert("L" if image.mode == "LA" else "RGB")


def _encoded(picture: Image.Image, encoding: str, profile: bytes | None) -> bytes:
    # Or else Pillow writes a comment or a transparent colour that the source had.
    picture.info = {}
    fits = profile and _keeps(profile, picture)
    buffer = io.BytesIO()
    picture.save(buffer, encoding, icc_profile=profile if fits else None, **(_JPEG if encoding == "JPEG" else _PNG))
    return buffer.getvalue()


def _keeps(profile: bytes, picture: Image.Image) -> bool:
    space = _PROFILE_SPACES["L" if picture.mode in {"L", "LA"} else "RGB"]
    return len(profile) <= _MAX_PROFILE_BYTES and profile[16:20] == space


def serve(jobs: BinaryIO, replies: BinaryIO) -> None:
    """Answers *jobs* one by one until they end."""
    replies.write(READY)
    replies.flush()
    while len(prefix := jobs.read(PREFIX.size)) == PREFIX.size:
        header_bytes, data_bytes = PREFIX.unpack(prefix)
        header, data = jobs.read(header_bytes), jobs.read(data_bytes)
        if len(data) < data_bytes:
            return
        job = Job.read(header)
        signal.setitimer(signal.ITIMER_REAL, job.timeout_s + _GRACE_S)
        picture = b""
        try:
            reply, picture = (Reply("done"), digest(job, data)) if job.digest else prepare(job, data)
        except MemoryError:
            reply = Reply("complexity", "MemoryError")
        except Exception as exc:  # noqa: BLE001  Pillow's plugins raise of every kind, SyntaxError among them
            reply = Reply("decode", type(exc).__name__)
        signal.setitimer(signal.ITIMER_REAL, 0)
        del data
        header = reply.header()
        replies.write(PREFIX.pack(len(header), len(picture)) + header)
        replies.write(picture)
        replies.flush()


def confine(memory_bytes: int) -> None:
    """Bounds what this process can take, and ties its life to the gateway's."""
    # Sent to the whole process group or container; the gateway drains first, and the end of stdin ends the worker.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    # Elsewhere there is no such thing: time alone is bounded there, and the end of stdin ends the worker.
    if sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    confine(int(sys.argv[1]))
    serve(sys.stdin.buffer, sys.stdout.buffer)
