"""A gateway in a process of its own, for the benchmarks: `python -m tests.bench.gateway_process SETTINGS`.

Prints its gRPC address and serves until standard input closes.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import uvloop

from gateway import app
from gateway.server import log
from gateway.settings import load


async def main(path: Path) -> None:
    """Serves with the settings at *path*."""
    settings = load(path)
    log.configure(settings.server.log_format, level=settings.server.log_level)
    stop = asyncio.Event()

    async def started(addresses: app.Addresses) -> None:
        print(addresses.grpc, flush=True)

        def read() -> None:
            sys.stdin.read()

        asyncio.get_running_loop().run_in_executor(None, read).add_done_callback(lambda _: stop.set())

    await app.run(settings, stop=stop, started=started)


if __name__ == "__main__":
    uvloop.run(main(Path(sys.argv[1])))
