"""`vision-gateway serve` as operators run it: a process of its own, with its metrics and its memory."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from prometheus_client.parser import text_string_to_metric_families

from tests.fixtures.settings_file import as_toml

_SERVE = (str(Path(sys.executable).parent / "vision-gateway"), "serve", "--log-level", "WARNING", "--settings")
_STOPPING_S = 60


@dataclass(frozen=True)
class GatewayProcess:
    """One that serves at *address*; its metrics are at *http_address*."""

    process: subprocess.Popen[str]
    address: str
    http_address: str

    def samples(self, name: str, *labels: str) -> dict[tuple[str, ...], float]:
        """The samples of one metric by the values of *labels*."""
        with urlopen(f"http://{self.http_address}/metrics", timeout=30) as response:
            text = response.read().decode()
        return {
            tuple(sample.labels[label] for label in labels): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name
        }

    def resident_mib(self) -> float:
        """Memory of the gateway and its decode workers."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return sum(map(_resident_mib, (self.process.pid, *map(int, children))))

    def stop(self) -> int:
        """Has it drain, as a rolling restart does, and gives its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(_STOPPING_S)


@contextmanager
def serving(folder: Path, *, address: str = "127.0.0.1:0", **tables: Any) -> Iterator[GatewayProcess]:
    """Serves with *tables* of settings, files in *folder*, until the end, or until it is stopped before."""
    folder.mkdir(exist_ok=True)
    settings = folder / "gateway.toml"
    server = {"grpc_address": address, "http_address": "127.0.0.1:0", **tables.pop("server", {})}
    ledger = tables.pop("ledger", {"url": f"sqlite:///{folder}/ledger.db"})
    settings.write_text(as_toml({"server": server, "ledger": ledger, **tables}))
    with (folder / "log").open("a") as log:
        process = subprocess.Popen([*_SERVE, settings], stdout=subprocess.PIPE, stderr=log, text=True)
    with process:
        try:
            yield GatewayProcess(process, *_where(process, folder / "log"))
        finally:
            if process.poll() is None:
                process.kill()


def _where(process: subprocess.Popen[str], log: Path) -> tuple[str, str]:
    said = ""
    for line in process.stdout or ():
        said += line
        if "ready?" in line:
            found = re.search(r"gRPC +(\S+).*metrics +http://(\S+)/metrics", said, re.DOTALL)
            assert found, said
            return found[1], found[2]
    raise RuntimeError(f"the gateway does not start: {log.read_text()}")


def _resident_mib(pid: int) -> float:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return 0.0
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    return int(found[1]) / 1024 if found else 0.0
