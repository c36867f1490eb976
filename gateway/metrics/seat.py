"""What several worker processes count, told as one: prometheus_client's multiprocess mode, by seat and not by process.

Each worker has a seat, a number, and counts in that seat's files. Whoever takes the seat of a worker that died goes on
counting where it was cut off: counters never fall, nothing that was counted is lost with a process, and there are never
more files than seats. (By process id, as the library does it by itself, each worker that ever lived leaves its files,
and scrapes take longer and longer.) How things are just now, the gauges, leaves with the worker.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Metric, PlatformCollector, ProcessCollector, values
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client import Gauge

# prometheus_client has no types for what it does with several processes, hence each `no-untyped-call` here.
# Under this name prometheus_client looks for the folder.
_FOLDER = "PROMETHEUS_MULTIPROC_DIR"


@dataclass(frozen=True, slots=True)
class Seat:
    """Where worker *number*, from 0, counts: in *folder*, which all workers of one gateway share."""

    folder: Path
    number: int

    def take(self) -> None:
        """From now on instruments that are made in this process count here."""
        os.environ[_FOLDER] = str(self.folder)
        values.ValueClass = values.MultiProcessValue(lambda: self.number)  # type: ignore[no-untyped-call]
        self._pid.write_text(str(os.getpid()))

    def leave(self) -> None:
        """Forgets how things were with a worker that has ended; what it counted stays."""
        self._pid.unlink(missing_ok=True)
        mark_process_dead(self.number, str(self.folder))  # type: ignore[no-untyped-call]

    def registry(self) -> CollectorRegistry:
        """Gives what all workers have counted, whichever of them is asked."""
        registry = CollectorRegistry()
        registry.register(_Counted(self.folder))
        registry.register(_Processes(self.folder))
        PlatformCollector(registry=registry)
        return registry

    @property
    def _pid(self) -> Path:
        return self.folder / f"{self.number}.pid"


def gone(gauge: Gauge, *labels: str, left: float = math.nan) -> None:
    """Shows *gauge* for *labels* no more; in the files of workers it stays, at *left*: not-a-number is not shown."""
    if _FOLDER in os.environ:
        gauge.labels(*labels).set(left)
    else:
        gauge.remove(*labels)


class _Counted(Collector):
    def __init__(self, folder: Path) -> None:
        self._files = MultiProcessCollector(None, str(folder))  # type: ignore[no-untyped-call]

    def collect(self) -> Iterator[Metric]:
        metric: Metric
        for metric in self._files.collect():  # type: ignore[no-untyped-call]
            metric.samples = [sample for sample in metric.samples if not math.isnan(sample.value)]
            yield metric


class _Processes(Collector):
    """The usual `process_*` series of each worker."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def collect(self) -> Iterator[Metric]:
        families: dict[str, Metric] = {}
        for file in sorted(self._folder.glob("*.pid")):
            try:
                collector = ProcessCollector(pid=partial(int, file.read_text()), registry=None)
            except FileNotFoundError:
                continue
            for metric in collector.collect():
                family = families.setdefault(metric.name, Metric(metric.name, metric.documentation, metric.type))
                for sample in metric.samples:
                    family.add_sample(sample.name, {**sample.labels, "worker": file.stem}, sample.value)
        yield from families.values()
