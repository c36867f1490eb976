"""The supervisor of workers, with stand-ins for workers that are small programs."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from contextlib import asynccontextmanager

import pytest

from gateway.metrics.seat import Seat
from gateway.supervisor import NoWorkers, Supervisor, beat, reserved

# Says that it serves, and then does no more than that; on SIGTERM it ends, on SIGHUP it leaves a mark.
_SERVE = """
import pathlib, signal, sys, time
seat = pathlib.Path(sys.argv[-1])
signal.signal(signal.SIGHUP, lambda *_: seat.with_suffix(".reloaded").touch())
with seat.with_suffix(".starts").open("a") as starts:
    starts.write(".")
"""
LIVELY = f"{_SERVE}\nwhile True: print('.', flush=True); time.sleep(0.02)"
HUNG_AT_FIRST = f"""{_SERVE}
print(".", flush=True)
while True:
    time.sleep(0.02)
    if seat.with_suffix(".starts").stat().st_size > 1:
        print(".", flush=True)
"""
BROKEN = "raise SystemExit(3)"


@asynccontextmanager
async def supervised(program, folder, *, workers, **options):
    """Has workers that run *program* supervised, from when all serve."""
    supervisor = Supervisor([sys.executable, "-S", "-c", program], folder, workers=workers, **options)
    stop, serving = asyncio.Event(), asyncio.Event()

    async def started():
        serving.set()

    running = asyncio.create_task(supervisor.run(stop, started))
    try:
        async with asyncio.timeout(30):
            await asyncio.wait({running, asyncio.create_task(serving.wait())}, return_when=asyncio.FIRST_COMPLETED)
            yield supervisor
            stop.set()
            await running
    finally:
        running.cancel()
        await asyncio.wait([running])


async def until(condition):
    while not condition():  # noqa: ASYNC110  seen from outside
        await asyncio.sleep(0.01)


def starts(folder, number):
    return (folder / f"{number}.starts").stat().st_size


async def test_a_worker_that_gives_no_sign_of_life_is_killed_and_replaced(tmp_path):
    async with supervised(HUNG_AT_FIRST, tmp_path, workers=1, hung_after_s=0.5):
        await until(lambda: starts(tmp_path, 0) == 2)

    assert starts(tmp_path, 0) == 2


async def test_every_worker_is_told_to_read_the_settings_again(tmp_path):
    async with supervised(LIVELY, tmp_path, workers=2) as supervisor:
        supervisor.reload()

        await until(lambda: len(list(tmp_path.glob("*.reloaded"))) == 2)


async def test_workers_that_cannot_start_end_the_supervisor(tmp_path):
    with pytest.raises(NoWorkers, match="worker 0 ended with status 3 before it served"):
        async with supervised(BROKEN, tmp_path, workers=2):
            pass


async def test_what_a_dead_worker_was_doing_is_forgotten_and_what_it_counted_is_not(tmp_path):
    for name in ("gauge_livesum_1.db", "counter_1.db", "gauge_livesum_0.db", "1.pid"):
        (tmp_path / name).touch()

    Seat(tmp_path, 1).leave()

    assert sorted(each.name for each in tmp_path.iterdir()) == ["counter_1.db", "gauge_livesum_0.db"]


def test_a_reserved_port_is_for_those_that_share_it():
    with reserved("127.0.0.1:0") as address, socket.socket() as worker, socket.socket() as other:
        where = ("127.0.0.1", int(address.rpartition(":")[2]))
        with pytest.raises(OSError, match="cannot listen on"), reserved(address):
            pass
        worker.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        worker.bind(where)
        worker.listen()

        with pytest.raises(OSError, match="in use"):
            other.bind(where)
        with socket.create_connection(where):
            pass


async def test_a_worker_whose_supervisor_is_gone_stops():
    reading, writing = os.pipe()
    stop = asyncio.Event()
    beating = asyncio.create_task(beat(stop, writing, every_s=0.01))
    await asyncio.sleep(0.02)
    before = stop.is_set()

    os.close(reading)
    await beating

    os.close(writing)
    assert (before, stop.is_set()) == (False, True)
