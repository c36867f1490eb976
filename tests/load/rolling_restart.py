"""Restarts two replicas in turn under callers that never pause: `python -m tests.load.rolling_restart`.

    python -m tests.load.rolling_restart [--calls 20000] [--callers 100] [--write]

The callers use the Python client that is shipped, as it comes, with the addresses of both replicas; each makes one call
after another. While they do, the replicas are restarted in turn: SIGTERM, the end of the process, a new one at the same
address, and on to the other one once it serves. A call is lost if its caller is told anything but its answer.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory

import grpc
import uvloop
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.fixtures.pictures import encode, stored
from tests.load import page
from tests.load.gateway_process import GatewayProcess, serving
from visiongateway import AsyncVisionClient, VisionError

_MODELS = {
    "scripted": {
        "kind": "fake",
        "profile": "gemma4",
        "price": "free",
        "delay_s": 0.05,
        "max_inflight": 128,
        "remember": 0,
    }
}
_PATIENCE_S = 60.0


@dataclass
class Outcome:
    """What became of the calls, by code, and by the replica's exit codes what became of the replicas."""

    ended: Counter[str] = field(default_factory=Counter)
    exits: list[int] = field(default_factory=list)
    seconds: float = 0.0
    slowest_s: float = 0.0

    @property
    def lost(self) -> int:
        """Calls that were not answered."""
        return self.ended.total() - self.ended["OK"]


class Replica:
    """One address, and the gateway that serves there now."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running = ExitStack()
        self.gateway: GatewayProcess | None = None

    def start(self) -> None:
        """Starts a gateway, at the address of the one before if there was one."""
        address = self.gateway.address if self.gateway else "127.0.0.1:0"
        started = serving(self._folder, address=address, models=_MODELS, images={"workers": 1})
        self.gateway = self._running.enter_context(started)

    def restart(self) -> int:
        """Does so after that one has drained and ended; gives its exit code."""
        assert self.gateway
        code = self.gateway.stop()
        self._running.pop_all().close()
        self.start()
        return code

    def answered(self) -> bool:
        """Tells whether the gateway that runs now has answered a call."""
        assert self.gateway
        return any(self.gateway.samples("vision_gateway_requests_total", "code").values())

    def close(self) -> None:
        """Ends it."""
        self._running.close()


async def run(*, calls: int, callers: int, restarts: int, folder: Path) -> Outcome:
    """Makes at least *calls* calls, and goes on until there were *restarts* restarts."""
    outcome, replicas = Outcome(), [Replica(folder / name) for name in ("one", "two")]
    over = asyncio.Event()
    try:
        await asyncio.gather(*(asyncio.to_thread(replica.start) for replica in replicas))
        addresses = [replica.gateway.address for replica in replicas if replica.gateway]
        started = time.monotonic()
        async with AsyncVisionClient(addresses) as client, asyncio.TaskGroup() as group:
            for _ in range(callers):
                group.create_task(_call_on(client, outcome, lambda: over.is_set() and outcome.ended.total() >= calls))
            for replica in (each for each, _ in zip(cycle(replicas), range(restarts), strict=False)):
                outcome.exits.append(await asyncio.to_thread(replica.restart))
                await _serves(replica)
            over.set()
        outcome.seconds = time.monotonic() - started
    finally:
        for replica in replicas:
            replica.close()
    return outcome


async def _call_on(client: AsyncVisionClient, outcome: Outcome, is_over: Callable[[], bool]) -> None:
    picture = encode(stored(), "PNG")
    while not is_over():
        started = time.monotonic()
        try:
            await client.caption(picture)
            code = "OK"
        except VisionError as error:
            code = f"{error.code.name} {error.reason}".strip()
        outcome.ended[code] += 1
        outcome.slowest_s = max(outcome.slowest_s, time.monotonic() - started)


async def _serves(replica: Replica) -> None:
    """Waits until the replica says that it serves, and callers have come back to it."""
    assert replica.gateway
    async with grpc.aio.insecure_channel(replica.gateway.address) as channel, asyncio.timeout(_PATIENCE_S):
        health = health_pb2_grpc.HealthStub(channel)
        asked = health_pb2.HealthCheckRequest()
        while (await health.Check(asked, wait_for_ready=True)).status != health_pb2.HealthCheckResponse.SERVING:  # noqa: ASYNC110  seen from outside
            await asyncio.sleep(0.05)
        while not await asyncio.to_thread(replica.answered):  # noqa: ASYNC110  likewise
            await asyncio.sleep(0.05)


def main() -> None:
    """Makes the calls and prints what became of them."""
    parser = argparse.ArgumentParser(prog="python -m tests.load.rolling_restart", description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=20_000)
    parser.add_argument("--callers", type=int, default=100)
    parser.add_argument("--restarts", type=int, default=4)
    parser.add_argument("--write", action="store_true", help="into docs/resilience.md")
    given = parser.parse_args()
    with TemporaryDirectory(prefix="rolling-restart-") as folder:
        outcome = uvloop.run(
            run(calls=given.calls, callers=given.callers, restarts=given.restarts, folder=Path(folder))
        )
    head = ("Callers", "Restarts", "Calls", "Lost", "Slowest call", "Calls a second")
    told = page.table(
        head,
        [
            (
                str(given.callers),
                f"{len(outcome.exits)}, exit codes {sorted(set(outcome.exits))}",
                f"{outcome.ended.total():,}",
                ", ".join(f"{n} {what}" for what, n in outcome.ended.items() if what != "OK") or "0",
                f"{outcome.slowest_s * 1000:.0f} ms",
                f"{outcome.ended.total() / outcome.seconds:.0f}",
            )
        ],
    )
    print(told)
    if given.write:
        page.write("rolling-restart", told)


if __name__ == "__main__":
    main()
