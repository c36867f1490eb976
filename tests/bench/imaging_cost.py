"""Measures what images cost: checking and passing them through on the event loop, and preparing them in a worker.

    python -m tests.bench.imaging_cost [--rounds 20]

Prints CPU time, the median of the rounds: of this process for what runs on the event loop, and of the worker for what
it decodes. The worst cases are files of 20 MiB made to keep the event loop busy.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import time
from dataclasses import replace
from pathlib import Path

import uvloop
from PIL import Image

from gateway.domain import ImagePlan
from gateway.errors import InvalidImage
from gateway.imaging import Limits, Preparer, inspect
from tests.fixtures.pictures import chunk, encode, exif, png_header, stored

LIMITS = Limits()
MIB = 1 << 20
EVERY_TYPE = frozenset({"image/jpeg", "image/png", "image/webp", "image/gif"})
TICK_MS = 1000 / os.sysconf("SC_CLK_TCK")


def photograph(width, height):
    """Something that compresses as photographs do: soft shapes under fine grain."""
    shapes = Image.effect_noise((width // 40, height // 40), 120).resize((width, height), Image.Resampling.BICUBIC)
    return Image.blend(shapes, Image.effect_noise((width, height), 30), 0.3).convert("RGB")


def filled(start, piece, end=b""):
    """A file of 20 MiB: *start*, as many times *piece* as fit, *end*."""
    return start + piece * ((20 * MIB - len(start) - len(end)) // len(piece)) + end


def ordinary():
    return {
        "JPEG of 200 KB": encode(photograph(960, 720), "JPEG", quality=85),
        "JPEG of 200 KB, EXIF to strip": encode(photograph(960, 720), "JPEG", quality=85, exif=exif()),
        "JPEG of 2 MB": encode(photograph(3000, 2250), "JPEG", quality=85),
        "JPEG of 2 MB, EXIF to strip": encode(photograph(3000, 2250), "JPEG", quality=85, exif=exif()),
        "PNG of 200 KB": encode(photograph(400, 300), "PNG"),
        "PNG of 2 MB": encode(photograph(1280, 960), "PNG"),
        "WebP of 200 KB": encode(photograph(1200, 900), "WEBP", quality=85),
        "GIF of 500 KB": encode(photograph(960, 720), "GIF"),
    }


def hostile():
    jpeg = encode(stored(), "JPEG")
    gif = b"GIF89a\x40\0\x20\0\0\0\0\x2c\0\0\0\0\x40\0\x20\0\0\x08"
    return {
        "JPEG, 1 byte in 16 is 0xFF": filled(jpeg[:-2], b"\xff\x00" + b"a" * 31, jpeg[-2:]),
        "JPEG without an end": filled(jpeg[:-2], b"a"),
        "JPEG of EXIF segments": filled(b"\xff\xd8", b"\xff\xe1\x10\x00Exif\0\0II*\0\x08\0\0\0\xff\xff" + bytes(0xFEE)),
        "JPEG of comments": filled(b"\xff\xd8", b"\xff\xfe\x01\x00" + b"a" * 254),
        "PNG of empty IDATs": filled(png_header(64, 32), chunk(b"IDAT", b"")),
        "PNG of texts": filled(png_header(64, 32), chunk(b"tEXt", b"a\0b")),
        "GIF of short blocks": filled(gif, b"\x01a"),
        "WebP of empty chunks": b"RIFF"
        + (20 * MIB - 8).to_bytes(4, "little")
        + encode(stored(), "WEBP")[8:]
        + b"junk\0\0\0\0" * (20 * MIB // 8),
    }


def looked_at(data):
    with contextlib.suppress(InvalidImage):
        return inspect(data[: 20 * MIB], LIMITS)
    return None


def cpu_ms(work, rounds, *, repeats):
    """Median CPU milliseconds of this process for *work*."""
    times = []
    for _ in range(rounds):
        started = time.process_time()
        for _ in range(repeats):
            work()
        times.append((time.process_time() - started) / repeats * 1e3)
    return statistics.median(times)


async def passed_through(preparer, data, rounds):
    source = looked_at(data)
    plan = ImagePlan(source.width_px, source.height_px, 0)
    times = []
    for _ in range(rounds):
        started = time.process_time()
        for _ in range(50):
            await preparer.prepare(source, plan, media_types=EVERY_TYPE, timeout_s=5)
        times.append((time.process_time() - started) / 50 * 1e3)
    return statistics.median(times)


def worker_ticks(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return int(fields[11]) + int(fields[12])


def resident_mb(pid):
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


async def prepared(preparer, data, plan, rounds):
    """Median (wall, worker's CPU, own CPU) milliseconds of preparing *data*, and what came of it."""
    source = looked_at(data)
    [worker] = preparer._pool._idle
    walls, owns = [], []
    ticks = worker_ticks(worker.pid)
    for _ in range(rounds):
        started, own = time.perf_counter(), time.process_time()
        # The same image would be prepared once.
        sent = await preparer.prepare(replace(source), plan, media_types=EVERY_TYPE, timeout_s=30)
        walls.append((time.perf_counter() - started) * 1e3)
        owns.append((time.process_time() - own) * 1e3)
    spent = (worker_ticks(worker.pid) - ticks) * TICK_MS / rounds
    return statistics.median(walls), spent, statistics.median(owns), sent


def to_prepare():
    large = photograph(4000, 3000)
    screen = Image.new("RGB", (1920, 1080), "white")
    screen.paste(photograph(400, 300), (100, 100))
    return {
        "JPEG 12 MP to 0.44 MP": (encode(large, "JPEG", quality=85), ImagePlan(768, 576, 0)),
        "JPEG 12 MP to 1.8 MP": (encode(large, "JPEG", quality=85), ImagePlan(1536, 1152, 0)),
        "JPEG 12 MP on its side to 0.44 MP": (encode(large, "JPEG", exif=exif(6)), ImagePlan(576, 768, 0)),
        "progressive JPEG 12 MP to 0.44 MP": (encode(large, "JPEG", progressive=True), ImagePlan(768, 576, 0)),
        "PNG 12 MP to 0.44 MP": (encode(large, "PNG", compress_level=1), ImagePlan(768, 576, 0)),
        "WebP 12 MP to 0.44 MP": (encode(large, "WEBP"), ImagePlan(768, 576, 0)),
        "screenshot PNG 2 MP to 1 MP": (encode(screen, "PNG"), ImagePlan(1344, 756, 0)),
        "opaque RGBA PNG 2 MP kept": (encode(screen.convert("RGBA"), "PNG"), ImagePlan(1920, 1080, 0)),
    }


async def main(rounds):
    preparer = Preparer(workers=1)
    started = time.perf_counter()
    async with preparer:
        [worker] = preparer._pool._idle
        print(f"a worker starts in {(time.perf_counter() - started) * 1e3:.0f} ms, {resident_mb(worker.pid):.0f} MB\n")
        print(f"{'on the event loop, CPU ms':40}{'bytes':>12}{'inspect':>10}{'pass':>10}")
        for name, data in ordinary().items():
            checked = cpu_ms(lambda data=data: looked_at(data), rounds, repeats=50)
            print(f"{name:40}{len(data):12,}{checked:10.3f}{await passed_through(preparer, data, rounds):10.3f}")
        for name, data in hostile().items():
            print(f"{name:40}{20 * MIB:12,}{cpu_ms(lambda data=data: looked_at(data), rounds, repeats=1):10.3f}")
        print(f"\n{'prepared in a worker, ms':40}{'bytes':>12}{'wall':>8}{'worker':>8}{'loop':>8}  sent")
        for name, (data, plan) in to_prepare().items():
            wall, spent, own, sent = await prepared(preparer, data, plan, max(rounds // 4, 1))
            spending = f"{wall:8.0f}{spent:8.0f}{own:8.1f}"
            print(f"{name:40}{len(data):12,}{spending}  {sent.media_type}, {len(sent.data):,} bytes")
        print(f"\nthe worker at rest after that: {resident_mb(worker.pid):.0f} MB")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    uvloop.run(main(parser.parse_args().rounds))
