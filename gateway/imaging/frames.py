"""What the gateway and a decode worker say to each other: a JSON header and bytes, each with its length before it."""

from __future__ import annotations

import json
import struct
from dataclasses import asdict, dataclass
from typing import Literal, TypeAlias

# Lengths of header and bytes.
PREFIX = struct.Struct("!II")
# What a worker says once it can take jobs.
READY = b"\x06"

Encoding: TypeAlias = Literal["JPEG", "PNG"]


@dataclass(frozen=True, slots=True)
class Job:
    """How to prepare the image whose bytes follow.

    *width_px* and *height_px* are as the file stores them, *to_width_px* and *to_height_px* those of the upright
    picture to make. *timeout_s* is when the worker ends itself, should nobody be left to do so. *keep_opaque* asks
    for no new encoding where no pixel turns out to be transparent, *digest* for the digest of all pixels in place of a
    picture.
    """

    source_format: str
    width_px: int
    height_px: int
    orientation: int
    to_width_px: int
    to_height_px: int
    encoding: Encoding
    timeout_s: float = 5.0
    keep_opaque: bool = False
    digest: bool = False

    def header(self) -> bytes:
        """Gives the JSON header."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def read(cls, header: bytes) -> Job:
        """Reads what `header` gave."""
        return cls(**json.loads(header))


@dataclass(frozen=True, slots=True)
class Reply:
    """How a job went; the encoded picture follows when it is *done*.

    *kept* is the answer to *keep_opaque*. *cause* is the name of the exception behind a failure.
    """

    outcome: Literal["done", "kept", "decode", "complexity"]
    cause: str = ""

    def header(self) -> bytes:
        """Gives the JSON header."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def read(cls, header: bytes) -> Reply:
        """Reads what `header` gave."""
        return cls(**json.loads(header))
