"""Two hundred calls at once, from four processes, against a budget that pays for fifty."""

from __future__ import annotations

import asyncio
import random
import sys
import time
from pathlib import Path

import spender

from gateway.budget import Claim, Exhausted, Window
from gateway.budget.shielded import Shielded

WORKERS = 4
CALLS_OF_EACH = 50
PROGRAM = Path(spender.__file__)


class Observer:
    """Looks at the balance as often as it can; never may it be above the limit."""

    def __init__(self, store, started_at):
        self._store = store
        self._started_at = started_at
        self.totals = []

    async def look(self):
        balance = (await self._store.balance("anna", spender.now_at(self._started_at)))[Window.MONTH]
        self.totals.append(balance.spent + balance.reserved)
        assert balance.spent + balance.reserved <= spender.LIMIT
        return balance

    async def watch(self):
        while True:
            await self.look()
            await asyncio.sleep(0.002)


async def worker(url, started_at, seed, die_after=None):
    """Runs one worker to its end, or kills it after so many reservations; gives what it said it was billed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, PROGRAM, url, str(started_at), str(seed), str(CALLS_OF_EACH), stdout=asyncio.subprocess.PIPE
    )
    reserved = billed = 0
    try:
        while line := (await process.stdout.readline()).split():
            if line[0] == b"settled":
                billed += int(line[1])
            else:
                reserved += 1
            if reserved == die_after:
                process.kill()
                die_after = None
    finally:
        if process.returncode is None and sys.exc_info()[0]:
            process.kill()
        code = await process.wait()
    return billed, code


async def test_the_budget_is_used_and_never_exceeded(store_url, open_store):
    started_at = time.time()
    observer = Observer(Shielded(open_store()), started_at)
    watching = asyncio.create_task(observer.watch())

    ends = await asyncio.gather(*(worker(store_url, started_at, seed) for seed in range(WORKERS)))

    watching.cancel()
    await asyncio.wait([watching])
    assert watching.cancelled(), watching.exception()
    balance = await observer.look()
    assert [code for _, code in ends] == [0] * WORKERS
    assert (balance.spent, balance.reserved) == (sum(billed for billed, _ in ends), 0)
    assert 0.9 * spender.LIMIT <= balance.spent <= spender.LIMIT
    assert len(set(observer.totals)) > 10


async def test_the_same_while_workers_are_killed_and_replaced(store_url, open_store):
    started_at = time.time()
    store = open_store()
    observer = Observer(Shielded(store), started_at)
    watching = asyncio.create_task(observer.watch())
    dice = random.Random(4)  # noqa: S311  no secret

    async def generations(seed):
        killed = [await worker(store_url, started_at, seed + 10 * life, dice.randint(1, 4)) for life in (1, 2)]
        return [*killed, await worker(store_url, started_at, seed)]

    ends = [end for lives in await asyncio.gather(*map(generations, range(WORKERS))) for end in lives]

    watching.cancel()
    await asyncio.wait([watching])
    assert watching.cancelled(), watching.exception()
    # Whatever was held by those that died has expired by now, and is charged by the next claim.
    claim = Claim("anna", spender.LIMIT, {Window.MONTH: spender.LIMIT}, spender.now_at(started_at) + 60, 1.0)
    try:
        await store.reserve(claim)
    except Exhausted as exc:
        balance = exc.balance
    assert sum(code == -9 for _, code in ends) >= WORKERS
    assert sum(billed for billed, _ in ends) <= balance.spent <= spender.LIMIT
    assert (balance.spent >= 0.9 * spender.LIMIT, balance.reserved) == (True, 0)
