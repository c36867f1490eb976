"""Callers that do not wait for one another, in a process of their own: `python -m tests.load.arrivals`.

Reads what to do as JSON from standard input, and prints one line of JSON for each call as it ends. Calls come by chance
(Poisson), on schedule whatever became of those before; each takes its time from when it was due.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

import grpc
import uvloop
from google.rpc import error_details_pb2, status_pb2

_SERVICE = "/visiongateway.v1.VisionService"
_CHANNELS = 4
_OPTIONS = (
    ("grpc.enable_retries", 0),
    ("grpc.max_send_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),
)


@dataclass(frozen=True)
class Plan:
    """Calls of *rpc* at *address*, all with the message in the file *message*, *timeout_s* each, for *seconds*.

    *rate* calls a second by chance, drawn from *seed*; or where it is 0, *workers* that make one after another.
    """

    address: str
    rpc: str
    message: str
    seconds: float
    rate: float = 0.0
    workers: int = 0
    timeout_s: float = 3.0
    seed: int = 0


@dataclass(frozen=True)
class Ended:
    """How one call ended, and when, in seconds since the first could be made.

    *late_s* is how long after it was due it was made, *seconds* its time since it was due.
    """

    code: str
    at_s: float
    seconds: float
    late_s: float
    reason: str = ""
    has_retry_info: bool = False

    @property
    def due_s(self) -> float:
        """When it was due, in seconds since the first could be made."""
        return self.at_s - self.seconds


def run(plan: Plan, *, meanwhile: Callable[[], object] = lambda: None) -> list[Ended]:
    """Makes the calls of *plan* from a process of their own; *meanwhile* is called about as often as calls end."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.load.arrivals"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write(json.dumps(asdict(plan)))
        process.stdin.close()
        ended = []
        for line in process.stdout:
            ended.append(Ended(**json.loads(line)))
            meanwhile()
    assert process.returncode == 0
    return ended


async def _main(plan: Plan) -> None:
    message = Path(plan.message).read_bytes()  # noqa: ASYNC240  nothing else runs yet
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as stack:
        channels = [
            await stack.enter_async_context(grpc.aio.insecure_channel(plan.address, _OPTIONS)) for _ in range(_CHANNELS)
        ]
        # The message as it is on the wire: to write it anew for each call would take the gateway's time.
        stubs = itertools.cycle([channel.unary_unary(f"{_SERVICE}/{plan.rpc}") for channel in channels])
        for channel in channels:
            await channel.channel_ready()

        async def call(due: float) -> None:
            late_s = loop.time() - due
            try:
                await next(stubs)(message, timeout=plan.timeout_s)
            except grpc.aio.AioRpcError as error:
                code, details = error.code().name, _details(error)
            else:
                code, details = "OK", ()
            now = loop.time()
            print(json.dumps(asdict(Ended(code, now - begun, now - due, late_s, *details))), flush=True)

        begun = loop.time()
        end = begun + plan.seconds
        async with asyncio.TaskGroup() as group:
            if plan.rate:
                random, due = Random(plan.seed), loop.time()  # noqa: S311  chance, and nothing secret
                while (due := due + random.expovariate(plan.rate)) < end:
                    await asyncio.sleep(due - loop.time())
                    group.create_task(call(due))
            for _ in range(plan.workers):
                group.create_task(_one_after_another(call, end))


async def _one_after_another(call, end):
    while (now := asyncio.get_running_loop().time()) < end:
        await call(now)


def _details(error: grpc.aio.AioRpcError) -> tuple[str, bool]:
    trailers = dict(error.trailing_metadata() or ())
    status = status_pb2.Status.FromString(trailers.get("grpc-status-details-bin", b""))
    info = error_details_pb2.ErrorInfo()
    for detail in status.details:
        detail.Unpack(info)
    return info.reason, any(detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR) for detail in status.details)


if __name__ == "__main__":
    uvloop.run(_main(Plan(**json.load(sys.stdin))))
