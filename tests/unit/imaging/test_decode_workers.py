"""What happens to decode workers, and to whoever waits for them, when things go wrong.

The images are real; only workers that cannot start or that die are stand-ins.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from gateway.domain import ImagePlan, SourceImage
from gateway.errors import DeadlineExceeded, Draining, InvalidImage, Overloaded
from gateway.imaging import Limits, Preparer, inspect
from gateway.imaging.frames import Job
from gateway.imaging.limits import Flaw
from gateway.imaging.pool import Pool
from tests.fixtures.pictures import encode, jpeg_with_scans, size, stored

TYPES = frozenset({"image/jpeg", "image/png"})
SMALL = inspect(encode(stored(), "JPEG"), Limits())
# About 8 s of decoding, behind a header check that the tests pass by.
SLOW = SourceImage(jpeg_with_scans(4_000, width=2_000, height=2_000), "image/jpeg", 2_000, 2_000)
# More than a minute, in which only the gateway's death can end the worker.
SLOWER = SourceImage(jpeg_with_scans(40_000, width=2_000, height=2_000), "image/jpeg", 2_000, 2_000)
JOB = Job("JPEG", 64, 32, 1, 32, 16, "JPEG")
DIES_AT_START = "raise SystemExit(3)"
DIES_AT_WORK = "import sys; sys.stdout.write(chr(6)); sys.stdout.flush(); sys.stdin.read(1)"

pytestmark = pytest.mark.usefixtures("unblocked_loop")


def prepare(preparer, source, *, timeout_s=30.0):
    # Each call has an image of its own: within one, the same picture is made once.
    return preparer.prepare(replace(source), ImagePlan(32, 16, 0), media_types=TYPES, timeout_s=timeout_s)


def running(pid):
    """Whether the process does anything yet: a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def cpu_ticks(pid):
    """Hundredths of a second of CPU time; a worker that only starts takes less than 10."""
    return sum(map(int, Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[11:13]))


async def eventually(condition):
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110  other processes' ends are not ours to signal
            await asyncio.sleep(0.01)


def busy(preparer):
    return [worker.pid for worker in preparer._pool._busy]


def idle(preparer):
    return [worker.pid for worker in preparer._pool._idle]


@asynccontextmanager
async def slow_image(preparer):
    """Has one worker decode the slow image meanwhile; gives the task and the worker's process id."""
    task = asyncio.create_task(prepare(preparer, SLOW))
    await eventually(lambda: busy(preparer))
    yield task, busy(preparer)[0]
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_worker_that_takes_too_long_is_killed_and_its_image_refused():
    async with Preparer(timeout_s=0.3) as preparer:
        async with slow_image(preparer) as (task, pid):
            with pytest.raises(InvalidImage, match=r"more than 0\.3 s to decode") as caught:
                await task
        assert caught.value.limit == "complexity"
        await eventually(lambda: not running(pid))


async def test_a_neighbour_is_not_hurt_by_a_worker_that_is_killed():
    async with Preparer(timeout_s=3.0) as preparer, slow_image(preparer) as (slow, _):
        await prepare(preparer, SMALL)
        assert not slow.done()
        neighbour = idle(preparer)
        with pytest.raises(InvalidImage):
            await slow
        await prepare(preparer, SMALL)
        assert idle(preparer) == neighbour


async def test_a_killed_worker_is_replaced():
    async with Preparer(workers=1, timeout_s=0.3) as preparer:
        with pytest.raises(InvalidImage):
            await prepare(preparer, SLOW)
        assert size((await prepare(preparer, SMALL)).data) == (32, 16)


async def test_cancelling_kills_the_worker_and_frees_its_slot():
    async with Preparer(workers=1) as preparer:
        async with slow_image(preparer) as (task, pid):
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        await eventually(lambda: not running(pid))
        assert size((await prepare(preparer, SMALL)).data) == (32, 16)


async def test_a_worker_that_nobody_waits_for_ends_its_image_when_that_takes_but_a_moment():
    async with Preparer(workers=1) as preparer:
        worker = idle(preparer)
        task = asyncio.create_task(prepare(preparer, SMALL))
        while busy(preparer) != worker:  # noqa: ASYNC110  for less long than a turn of the clock
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await eventually(lambda: idle(preparer))
        assert idle(preparer) == worker


async def test_an_image_that_would_wait_for_longer_than_it_has_is_refused_at_once():
    async with Preparer(workers=1, timeout_s=0.5) as preparer:
        with pytest.raises(InvalidImage):
            await prepare(preparer, SLOW)  # Now an image is known to take 0.5 s.
        async with slow_image(preparer):
            with pytest.raises(Overloaded) as caught:
                await prepare(preparer, SMALL, timeout_s=0.7)
        assert caught.value.retry_after_s == pytest.approx(0.5, abs=0.25)


async def test_cancelling_an_image_in_line_leaves_the_others_their_places():
    async with Preparer(workers=1, timeout_s=0.5) as preparer, slow_image(preparer):
        given_up, patient = (asyncio.create_task(prepare(preparer, SMALL)) for _ in range(2))
        await eventually(lambda: preparer._pool._line._waiting == 2)
        given_up.cancel()
        assert size((await patient).data) == (32, 16)


async def test_the_end_of_the_callers_time_is_not_the_images_fault():
    async with Preparer() as preparer:
        with pytest.raises(DeadlineExceeded):
            await prepare(preparer, SLOW, timeout_s=0.3)


async def test_the_callers_time_runs_while_the_image_waits_in_line():
    async with Preparer(workers=1) as preparer, slow_image(preparer):
        with pytest.raises(DeadlineExceeded):
            await prepare(preparer, SMALL, timeout_s=0.1)


async def test_more_images_than_may_wait_are_refused():
    async with Preparer(workers=1, max_waiting=1) as preparer, slow_image(preparer):
        waiting = asyncio.create_task(prepare(preparer, SMALL))
        await eventually(lambda: preparer._pool._line._waiting == 1)
        with pytest.raises(Overloaded):
            await prepare(preparer, SMALL)
        waiting.cancel()


async def test_an_image_that_needs_too_much_memory_is_refused():
    flat = encode(Image.new("RGB", (6_000, 6_000)), "PNG")
    async with Preparer(memory_bytes=128 << 20) as preparer:
        with pytest.raises(InvalidImage) as caught:
            await prepare(preparer, inspect(flat, Limits()))
        assert caught.value.limit == "complexity"


async def test_an_idle_worker_that_was_killed_is_replaced_unseen():
    async with Preparer(workers=1) as preparer:
        os.kill(idle(preparer)[0], signal.SIGKILL)
        assert size((await prepare(preparer, SMALL)).data) == (32, 16)


async def test_a_worker_killed_by_somebody_else_does_not_cost_the_image():
    async with Preparer(workers=1, timeout_s=1.0) as preparer, slow_image(preparer) as (task, pid):
        os.kill(pid, signal.SIGKILL)
        await eventually(lambda: busy(preparer) not in ([], [pid]))
        assert not task.done()


async def test_an_image_that_kills_its_worker_twice_is_refused():
    pool = Pool(command=(sys.executable, "-c", DIES_AT_WORK))
    with pytest.raises(Flaw, match="makes its decoder fail") as caught:
        await pool.run(JOB, SMALL.data, timeout_s=30)
    await pool.stop()
    assert caught.value.limit == "decode"


async def test_workers_that_cannot_start_are_tried_again_only_after_a_pause(tmp_path):
    starts = tmp_path / "starts"
    now = 0.0
    code = f"open({str(starts)!r}, 'a').write('x'); {DIES_AT_START}"
    pool = Pool(command=(sys.executable, "-c", code), clock=lambda: now)
    counts = []
    for now in (0.0, 0.0, 0.09, 0.11, 0.2, 0.32):  # noqa: B007  the pool's clock reads it
        with pytest.raises(Overloaded):
            await pool.run(JOB, SMALL.data, timeout_s=30)
        counts.append(len(starts.read_text()))
    await pool.stop()
    assert counts == [1, 1, 1, 2, 2, 3]


async def test_a_gateway_whose_workers_cannot_start_says_so_at_start_up():
    pool = Pool(command=(sys.executable, "-c", DIES_AT_START))
    with pytest.raises(Overloaded):
        await pool.start()
    await pool.stop()


async def test_a_worker_is_replaced_after_its_number_of_images():
    async with Preparer(workers=1, jobs_per_worker=2) as preparer:
        first = idle(preparer)
        await prepare(preparer, SMALL)
        assert idle(preparer) == first
        await prepare(preparer, SMALL)
        assert idle(preparer) == []
        await prepare(preparer, SMALL)
        assert idle(preparer) != first


async def test_workers_are_started_when_they_are_needed():
    async with Preparer(workers=3) as preparer:
        assert len(idle(preparer)) == 1
        await asyncio.gather(*(prepare(preparer, SMALL) for _ in range(9)))
        assert len(idle(preparer)) == 3


async def test_no_worker_outlives_its_pool():
    async with Preparer() as preparer:
        await asyncio.gather(*(prepare(preparer, SMALL) for _ in range(4)))
        pids = idle(preparer)
    assert [pid for pid in pids if running(pid)] == []


async def test_stopping_ends_what_is_under_way():
    async with Preparer() as preparer, slow_image(preparer) as (task, pid):
        await preparer._pool.stop()
        with pytest.raises(Draining):
            await task
        assert not running(pid)
        with pytest.raises(Draining):
            await prepare(preparer, SMALL)


async def test_a_worker_gets_no_secrets(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    async with Preparer() as preparer:
        environment = await asyncio.to_thread(Path(f"/proc/{idle(preparer)[0]}/environ").read_bytes)
    assert b"sk-secret" not in environment


def test_a_worker_stays_small():
    code = "import sys, gateway.imaging.worker; print([m for m in ('grpc', 'asyncio', 'pydantic') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout == b"[]\n"


ORPHAN_MAKER = """
import asyncio, os, signal, sys
from gateway.imaging import Preparer
from tests.unit.imaging.test_decode_workers import SLOWER, busy, cpu_ticks, eventually, prepare

async def main():
    async with Preparer(timeout_s=300) as preparer:
        tasks = [asyncio.create_task(prepare(preparer, SLOWER, timeout_s=300)) for _ in range(2)]
        await eventually(lambda: sum(cpu_ticks(pid) > 50 for pid in busy(preparer)) == 2)
        print(*busy(preparer), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


async def test_no_worker_outlives_a_gateway_that_was_killed():
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", ORPHAN_MAKER, stdout=subprocess.PIPE, cwd=Path(__file__).parents[3]
    )
    output, _ = await process.communicate()
    pids = [int(pid) for pid in output.split()]
    assert len(pids) == 2
    await eventually(lambda: not any(running(pid) for pid in pids))
