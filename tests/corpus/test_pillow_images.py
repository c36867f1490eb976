"""Every image of Pillow's own test suite goes through check and preparation, and comes out a picture or a refusal.

The images are in Pillow's source distribution: `pip download --no-deps --no-binary :all: pillow`, unpack, and run
`VISION_GATEWAY_PILLOW_IMAGES=pillow-13.0.0/Tests/images pytest tests/corpus -s`. Among them are those that once
crashed, hung, or filled the memory.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from pathlib import Path

from gateway.domain import ImagePlan
from gateway.errors import InvalidImage
from gateway.imaging import Limits, Preparer, inspect
from tests.fixtures.pictures import size

FOLDER = Path(os.environ["VISION_GATEWAY_PILLOW_IMAGES"])
TYPES = frozenset({"image/jpeg", "image/png", "image/webp", "image/gif"})
EDGE = 100


async def outcome(preparer, data, limits):
    """What becomes of *data*: `sent`, or the limit that it hit."""
    try:
        source = inspect(data, limits)
        scale = EDGE / max(source.width_px, source.height_px)
        plan = ImagePlan(max(1, round(source.width_px * scale)), max(1, round(source.height_px * scale)), 0)
        sent = await preparer.prepare(source, plan, media_types=TYPES, timeout_s=30)
    except InvalidImage as exc:
        return exc.limit
    assert size(sent.data) == (plan.width_px, plan.height_px)
    return "sent"


async def test_every_image_is_sent_or_refused():
    outcomes: Counter[str] = Counter()
    slowest = (0.0, "")
    limits = Limits()
    async with Preparer() as preparer:
        for path in sorted(path for path in FOLDER.rglob("*") if path.is_file()):  # noqa: ASYNC240  nothing else runs
            started = time.perf_counter()
            outcomes[await outcome(preparer, path.read_bytes(), limits)] += 1
            slowest = max(slowest, (time.perf_counter() - started, path.name))
    print(f"\n{sum(outcomes.values())} images: {dict(outcomes)}; the slowest took {slowest[0]:.2f} s ({slowest[1]})")  # noqa: T201  its report
    assert outcomes["sent"] > 0
