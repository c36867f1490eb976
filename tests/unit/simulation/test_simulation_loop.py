from __future__ import annotations

import asyncio

import pytest

from gateway.simulation.loop import VirtualTimeLoop


def run(work):
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(work)


def now():
    return asyncio.get_running_loop().time()


def test_time_passes_to_the_next_timer_and_no_further():
    async def work():
        seen = []

        async def sleeper(seconds):
            await asyncio.sleep(seconds)
            seen.append(now())

        await asyncio.gather(*map(sleeper, (86_400.0, 0.5, 3600.0)))
        return seen

    assert run(work()) == [0.5, 3600.0, 86_400.0]


def test_no_time_passes_while_anybody_has_something_to_do():
    async def work():
        for _ in range(100):
            await asyncio.sleep(0)
        return now()

    assert run(work()) == 0.0


def test_a_timeout_ends_what_takes_longer_at_its_very_time():
    async def work():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(30):
                await asyncio.sleep(31)
        return now()

    assert run(work()) == 30.0


def test_waiting_for_what_never_comes_is_an_error_and_no_hang():
    async def work():
        await asyncio.Event().wait()

    with pytest.raises(RuntimeError, match="every task waits"):
        run(work())


def test_work_for_another_thread_is_done_at_once_and_takes_no_time():
    async def work():
        made = await asyncio.to_thread(sum, (1, 2))
        with pytest.raises(ValueError, match="x"):
            await asyncio.to_thread(int, "x")
        return made, now()

    assert run(work()) == (3, 0.0)
