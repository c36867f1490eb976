"""Measures what becomes of calls when more of them come than can be answered: `python -m tests.load.overload`.

    python -m tests.load.overload [--seconds 20] [--write] [SCENARIO...]

First callers that wait for their answers find out how many a second there can be at most (the peak). Then callers come
by chance, whatever became of those before them, at a multiple of that. Prints a table; with `--write` it goes into
docs/resilience.md. A run counts only if the gateway's own counters agree with what callers were told.
"""

from __future__ import annotations

import argparse
import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from PIL import Image

from tests.fixtures import triton
from tests.fixtures.pictures import encode
from tests.load import arrivals, page
from tests.load.arrivals import Ended, Plan
from tests.load.gateway_process import GatewayProcess, serving
from visiongateway.v1 import image_pb2, vision_service_pb2 as pb

TIMES = (0.3, 1, 2, 3, 4, 8)
MODEL_S = 0.3
_PHOTO = Path(__file__).parents[1] / "photos" / "coffee.png"
_SIDES_PX = (2400, 1600)
# Comes to about 700 KB.
_QUALITY = 82
_HEAD = (
    "Offered",
    "Answered",
    "of peak",
    "p50",
    "p99",
    "Shed",
    "p50",
    "p99",
    "Other",
    "Memory",
)


@dataclass(frozen=True)
class Scenario:
    """What stands behind the gateway; *told* says what it is."""

    told: str
    rpc: str = "Caption"
    model: dict[str, Any] = field(default_factory=dict)
    embedded: bool = False


_FAKE = {"kind": "fake", "profile": "gemma4", "price": "free", "delay_s": MODEL_S, "remember": 0}
SCENARIOS = {
    "model": Scenario(
        "a scripted model that takes 300 ms, 8 calls at once (`max_inflight = 8`)", model=_FAKE | {"max_inflight": 8}
    ),
    "short-queue": Scenario(
        "the same, and at most 4 calls wait for it (`max_queue = 4`)",
        model=_FAKE | {"max_inflight": 8, "max_queue": 4},
    ),
    "images": Scenario(
        "a scripted model that takes 300 ms, as many calls at once as the settings that come with the gateway allow "
        "(64): the image work is what there is too little of",
        model=_FAKE,
    ),
    "images-adaptive": Scenario(
        "the same with `adaptive = true`: the gateway finds out how many at once are too many",
        model=_FAKE | {"adaptive": True},
    ),
    "triton": Scenario("a real Triton with the CPU model that comes with the gateway", rpc="Classify", embedded=True),
    "triton-adaptive": Scenario(
        "the same with `adaptive = true`", rpc="Classify", embedded=True, model={"adaptive": True}
    ),
}


@dataclass(frozen=True)
class Level:
    """What became of the calls of one level of load; *rate* is calls a second as they were due."""

    rate: float
    seconds: float
    ended: Sequence[Ended]
    resident_mib: float

    @property
    def answered(self) -> list[float]:
        """How long each took that was answered."""
        return [each.seconds for each in self.ended if each.code == "OK"]

    @property
    def shed(self) -> list[float]:
        """How long each took that was turned away and told so."""
        return [each.seconds for each in self.ended if is_shed(each)]

    @property
    def other(self) -> Counter[str]:
        """How many ended otherwise, by code."""
        return Counter(each.code for each in self.ended if each.code != "OK" and not is_shed(each))

    @property
    def goodput(self) -> float:
        """Answers a second."""
        return len(self.answered) / self.seconds


def is_shed(ended: Ended) -> bool:
    """Tells whether a caller was turned away as one that may come back."""
    return (ended.code, ended.reason, ended.has_retry_info) == ("UNAVAILABLE", "OVERLOADED", True)


def run_level(gateway: GatewayProcess, plan: Plan) -> Level:
    """Makes the calls of *plan*; raises AssertionError where callers and gateway disagree on how they ended."""
    before, resident_mib = counted(gateway, plan.rpc), [gateway.resident_mib()]

    def meanwhile() -> None:
        resident_mib.append(gateway.resident_mib())

    ended = arrivals.run(plan, meanwhile=meanwhile)
    told, seen = Counter(each.code for each in ended), counted(gateway, plan.rpc) - before
    # Who gives up by a clock of its own is gone to the gateway, which cannot always tell why.
    gone = seen.pop("CANCELLED", 0)
    seen["DEADLINE_EXCEEDED"] += gone
    assert +seen == told, (seen, gone, told)
    return Level(len(ended) / plan.seconds, plan.seconds, ended, max(resident_mib))


def counted(gateway: GatewayProcess, rpc: str) -> Counter[str]:
    """The calls that the gateway says have ended, by code."""
    samples = gateway.samples("vision_gateway_requests_total", "rpc", "code")
    return Counter({code: int(count) for (of, code), count in samples.items() if of == rpc})


@contextmanager
def stage(scenario: Scenario, folder: Path) -> Iterator[GatewayProcess]:
    """Serves what a scenario is about."""
    if not scenario.embedded:
        with serving(folder, models={"scripted": scenario.model}) as gateway:
            yield gateway
        return
    with triton.running() as server:
        table = {"kind": "triton", "profile": "embedded", "address": server.grpc_address, "model": "embedded"}
        with serving(folder, models={"embedded": table | scenario.model}) as gateway:
            yield gateway


def photograph() -> bytes:
    """A JPEG of about 700 KB that no model takes as large as it is."""
    with Image.open(_PHOTO) as photo:
        large = photo.convert("RGB").resize(_SIDES_PX)
    noise = Image.effect_noise(_SIDES_PX, 24).convert("RGB")
    return encode(Image.blend(large, noise, 0.25), "JPEG", quality=_QUALITY)


def message(folder: Path, rpc: str) -> Path:
    """A file with a request of *rpc* as it is on the wire."""
    request = getattr(pb, f"{rpc}Request")(image=image_pb2.Image(data=photograph()))
    path = folder / f"{rpc}.bin"
    path.write_bytes(request.SerializeToString())
    return path


def measure(scenario: Scenario, folder: Path, *, seconds: float) -> Iterator[tuple[str, Level]]:
    """Gives each level as it ends, by what it is called."""
    request = str(message(folder, scenario.rpc))
    with stage(scenario, folder / "gateway") as gateway:
        plan = Plan(gateway.address, scenario.rpc, request, seconds)
        run_level(gateway, Plan(gateway.address, scenario.rpc, request, 5, workers=4))
        peak = max((_closed(gateway, plan, workers) for workers in (4, 8, 16)), key=lambda level: level.goodput)
        yield "at most", peak
        for times in TIMES:
            rate = times * peak.goodput
            open_loop = Plan(gateway.address, scenario.rpc, request, seconds, rate=rate, seed=int(10 * times))
            yield f"{times:g} x", run_level(gateway, open_loop)


def _closed(gateway: GatewayProcess, plan: Plan, workers: int) -> Level:
    return run_level(gateway, Plan(plan.address, plan.rpc, plan.message, plan.seconds, workers=workers))


def row(name: str, level: Level, peak: float) -> tuple[str, ...]:
    """The cells of one level; *peak* is answers a second."""
    other = ", ".join(f"{count} {what}" for what, count in level.other.items()) or "none"
    return (
        f"{name}, {level.rate:.0f}/s",
        f"{level.goodput:.1f}/s",
        f"{level.goodput / peak:.0%}",
        *_milliseconds(level.answered),
        f"{len(level.shed) / level.seconds:.1f}/s",
        *_milliseconds(level.shed),
        other,
        f"{level.resident_mib:.0f} MiB",
    )


def _milliseconds(seconds: Sequence[float]) -> tuple[str, str]:
    if len(seconds) < 2:
        return "", ""
    p99 = statistics.quantiles(seconds, n=100, method="inclusive")[98]
    return f"{statistics.median(seconds) * 1000:.0f} ms", f"{p99 * 1000:.0f} ms"


def main() -> None:
    """Runs the scenarios that are named, or all."""
    parser = argparse.ArgumentParser(prog="python -m tests.load.overload", description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=20.0, help="of each level")
    parser.add_argument("--write", action="store_true", help="into docs/resilience.md")
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=", ".join(SCENARIOS))
    given = parser.parse_args()
    if unknown := set(given.scenarios) - set(SCENARIOS):
        parser.error(f"there is no {', '.join(sorted(unknown))}")
    for name in given.scenarios or SCENARIOS:
        scenario = SCENARIOS[name]
        print(f"{name}: {scenario.told}\n", flush=True)
        with TemporaryDirectory(prefix="overload-") as folder:
            levels = []
            for what, level in measure(scenario, Path(folder), seconds=given.seconds):
                levels.append((what, level))
                late_s = max(each.late_s for each in level.ended)
                told = page.line(row(what, level, levels[0][1].goodput))
                print(f"{told} latest caller {late_s * 1000:.0f} ms", flush=True)
        peak = max(level.goodput for _, level in levels)
        told = f"Behind the gateway: {scenario.told}.\n\n"
        told += page.table(_HEAD, [row(what, level, peak) for what, level in levels])
        print(f"\n{told}\n", flush=True)
        if given.write:
            page.write(f"overload-{name}", told)


if __name__ == "__main__":
    main()
