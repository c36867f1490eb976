"""A worker of its own process that makes calls out of a shared budget, and says on standard output what it does."""

from __future__ import annotations

import asyncio
import random
import sys
import time
from pathlib import Path

from gateway.budget import Claim, Exhausted, Window
from gateway.budget.redis import RedisStore
from gateway.budget.sqlite import SqliteStore

LIMIT = 5_000_000_000
WORST_CASE = LIMIT // 50
LEASE_S = 2.0
# A day amid a month: the budget never starts anew in the midst of a test.
MIDDAY = 1_771_070_400
SPREAD_S = 0.5
TAKES_S = 0.05
RETRY_S = 0.02


def store_at(url):
    return SqliteStore(Path(url.removeprefix("sqlite:///"))) if url.startswith("sqlite") else RedisStore(url)


def now_at(started_at):
    return MIDDAY + time.time() - started_at


async def call(store, started_at, dice):
    await asyncio.sleep(dice.uniform(0, SPREAD_S))
    while True:
        claim = Claim("anna", WORST_CASE, {Window.MONTH: LIMIT}, now_at(started_at), LEASE_S)
        try:
            reservation = await store.reserve(claim)
        except Exhausted as exc:
            if exc.balance.spent + WORST_CASE > LIMIT:
                return
            await asyncio.sleep(RETRY_S)
        else:
            break
    print("reserved", flush=True)  # noqa: T201  this is how it speaks
    await asyncio.sleep(dice.uniform(0, TAKES_S))
    bill = dice.randint(WORST_CASE // 2, WORST_CASE)
    await store.settle(reservation, bill)
    print("settled", bill, flush=True)  # noqa: T201  likewise


async def main(url, started_at, seed, calls):
    store = store_at(url)
    dice = random.Random(seed)  # noqa: S311  no secret
    await asyncio.gather(*(call(store, started_at, dice) for _ in range(calls)))
    await store.aclose()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])))
