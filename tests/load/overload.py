"""Measures what becomes of calls when more of them come than can be answered: `python -m tests.load.overload`.

    python -m tests.load.overload [--seconds 15] [--write] [SCENARIO...]

Callers that wait for their answers find out how many a second there can be at most (the peak). Then callers come by
chance, whatever became of those before them, at a multiple of that. They come for some seconds before any of them
counts: what comes first is waited for, as a burst is. Since other work on the machine comes and goes, the peak is
measured anew before and after each level, and a level is held against the mean of its two. Prints a table; with
`--write` it goes into docs/resilience.md. A run counts only if the gateway's own counters agree with what callers were
told.
"""

from __future__ import annotations

import argparse
import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
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

TIMES = (0.3, 1, 3, 4, 8)
_WORKERS = (8, 12)
_SETTLES_S = 4.0
_FIRST_S = 1.0
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
        "a scripted model that takes 300 ms, 8 calls at once (`max_inflight = 8`)",
        model=_FAKE | {"max_inflight": 8},
    ),
    "images": Scenario(
        "a scripted model that takes 300 ms, as many calls at once as the settings that come with the gateway allow "
        "(64): the image work is what there is too little of",
        model=_FAKE,
    ),
    "triton": Scenario(
        "a real Triton with the CPU model that comes with the gateway, two calls at once for each of its cores "
        "(`max_inflight = 4`)",
        rpc="Classify",
        embedded=True,
        model={"max_inflight": 4},
    ),
    "triton-adaptive": Scenario(
        "the same Triton with `adaptive = true`", rpc="Classify", embedded=True, model={"adaptive": True}
    ),
}


@dataclass(frozen=True)
class Level:
    """What became of the calls of one level of load; *rate* is calls a second as they were due.

    What they took and how many were answered is of those that were due after *settles_s* seconds of *seconds*.
    """

    rate: float
    seconds: float
    ended: Sequence[Ended]
    resident_mib: float
    settles_s: float = 0.0

    @property
    def answered(self) -> list[float]:
        """How long each took that was answered."""
        return [each.seconds for each in self._settled if each.code == "OK"]

    @property
    def first(self) -> list[float]:
        """How long each took that was answered and due before it counted."""
        return [each.seconds for each in self.ended if each.code == "OK" and each.due_s < self.settles_s]

    @property
    def shed(self) -> list[float]:
        """How long each took that was turned away and told so."""
        return [each.seconds for each in self._settled if is_shed(each)]

    @property
    def other(self) -> Counter[str]:
        """How many ended otherwise, by code."""
        return Counter(each.code for each in self.ended if each.code != "OK" and not is_shed(each))

    @property
    def goodput(self) -> float:
        """Answers a second, from when the first ones can have come, while calls do."""
        start = max(_FIRST_S, self.settles_s)
        return sum(each.code == "OK" and start <= each.at_s < self.seconds for each in self.ended) / (
            self.seconds - start
        )

    @property
    def _settled(self) -> Iterator[Ended]:
        return (each for each in self.ended if each.due_s >= self.settles_s)


def is_shed(ended: Ended) -> bool:
    """Tells whether a caller was turned away as one that may come back."""
    return (ended.code, ended.reason, ended.has_retry_info) == ("UNAVAILABLE", "OVERLOADED", True)


def run_level(gateway: GatewayProcess, plan: Plan, *, settles_s: float = 0.0) -> Level:
    """Makes the calls of *plan*; raises AssertionError where callers and gateway disagree on how they ended."""
    before, resident_mib = counted(gateway, plan.rpc), [gateway.resident_mib()]

    def meanwhile() -> None:
        resident_mib.append(gateway.resident_mib())

    ended = arrivals.run(plan, meanwhile=meanwhile)
    told, seen = Counter(each.code for each in ended), counted(gateway, plan.rpc) - before
    # Who gives up by a clock of its own may be gone to the gateway, or its answer on the way; nobody else may be.
    unheard, unsaid = seen - told, told - seen
    assert {*unsaid} <= {"DEADLINE_EXCEEDED"}, (seen, told)
    assert unheard.total() <= unsaid.total(), (seen, told)
    return Level(len(ended) / plan.seconds, plan.seconds, ended, max(resident_mib), settles_s)


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


@dataclass(frozen=True)
class Measured:
    """A level, what it is called, and the peaks before and after it, in answers a second."""

    name: str
    level: Level
    peaks: tuple[float, float]


def measure(scenario: Scenario, folder: Path, *, seconds: float) -> Iterator[Measured]:
    """Gives each level as it ends."""
    request = str(message(folder, scenario.rpc))
    with stage(scenario, folder / "gateway") as gateway:
        plan = Plan(gateway.address, scenario.rpc, request, seconds)
        # So that it is known how long an answer takes.
        run_level(gateway, replace(plan, workers=4))
        by_workers = {workers: run_level(gateway, replace(plan, workers=workers)) for workers in _WORKERS}
        workers = max(by_workers, key=lambda workers: by_workers[workers].goodput)
        before = by_workers[workers].goodput
        for times in TIMES:
            load = replace(plan, rate=times * before, seed=int(10 * times), seconds=seconds + _SETTLES_S)
            level = run_level(gateway, load, settles_s=_SETTLES_S)
            after = run_level(gateway, replace(plan, workers=workers)).goodput
            yield Measured(f"{times:g} x", level, (before, after))
            before = after


def row(measured: Measured) -> tuple[str, ...]:
    """The cells of one level."""
    level, peak = measured.level, statistics.mean(measured.peaks)
    other = ", ".join(f"{count} {what}" for what, count in level.other.items()) or "none"
    return (
        f"{measured.name}, {level.rate:.0f}/s",
        f"{level.goodput:.1f}/s",
        f"{level.goodput / peak:.0%} of {peak:.1f}/s",
        *_milliseconds(level.answered),
        f"{len(level.shed) / (level.seconds - level.settles_s):.1f}/s",
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
    parser.add_argument("--seconds", type=float, default=15.0, help="of each level")
    parser.add_argument("--write", action="store_true", help="into docs/resilience.md")
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=", ".join(SCENARIOS))
    given = parser.parse_args()
    if unknown := set(given.scenarios) - set(SCENARIOS):
        parser.error(f"there is no {', '.join(sorted(unknown))}")
    for name in given.scenarios or SCENARIOS:
        scenario = SCENARIOS[name]
        print(f"{name}: {scenario.told}\n", flush=True)
        with TemporaryDirectory(prefix="overload-") as folder:
            rows = []
            for measured in measure(scenario, Path(folder), seconds=given.seconds):
                rows.append(row(measured))
                late_s = max(each.late_s for each in measured.level.ended)
                _, first = _milliseconds(measured.level.first)
                print(
                    f"{page.line(rows[-1])} latest caller {late_s * 1000:.0f} ms, p99 of the first {first}", flush=True
                )
        told = f"Behind the gateway: {scenario.told}.\n\n{page.table(_HEAD, rows)}"
        print(f"\n{told}\n", flush=True)
        if given.write:
            page.write(f"overload-{name}", told)


if __name__ == "__main__":
    main()
