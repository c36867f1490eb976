"""Two hundred calls to four gateways, processes of their own, whose one budget pays for fifty."""

from __future__ import annotations

import asyncio
import json
import random
import re
import sys
import time
from contextlib import AsyncExitStack
from decimal import Decimal
from pathlib import Path

import grpc
import pytest

from gateway.budget import Claim, Exhausted, Window
from gateway.budget.shielded import Shielded
from visiongateway.v1 import image_pb2, vision_service_pb2 as pb, vision_service_pb2_grpc

# The output is most of the bill, and as long as it may be: what a call costs is a little less than its worst case.
MODEL = {
    "kind": "fake",
    "profile": "gemma4",
    "price": {"input": "0.001", "output": "1000"},
    "output_tokens": 100,
    "delay_s": 0.5,
    "max_inflight": 200,
}
CAPTION = pb.CaptionRequest(
    image=image_pb2.Image(data=(Path(__file__).parents[1] / "photos" / "coffee.png").read_bytes()),
    options={"max_output_tokens": 100},
)
GATEWAYS = 4
CALLS = 200
PAID_FOR = 50
LONG_S = 60


class Gateway:
    """One process at a time; started again when it was killed."""

    def __init__(self, environment, stack):
        self._environment = environment
        self._stack = stack

    async def start(self):
        command = ("-m", "gateway.cli", "serve", "--grpc-address", "127.0.0.1:0", "--http-address", "127.0.0.1:0")
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            *command,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=self._environment,
        )
        self._stack.push_async_callback(self.end, self._process)
        while line := (await self._process.stdout.readline()).decode():
            if found := re.search(r"gRPC +(127\.0\.0\.1:\d+)", line):
                channel = await self._stack.enter_async_context(grpc.aio.insecure_channel(found[1]))
                self.stub = vision_service_pb2_grpc.VisionServiceStub(channel)
                return
        raise AssertionError("the gateway did not start")

    def kill(self):
        self._process.kill()

    @staticmethod
    async def end(process):
        if process.returncode is None:
            process.kill()
        await process.wait()


class Observer:
    """Looks at the balance as often as it can; never may it be above the limit."""

    def __init__(self, store, limit):
        self._store = store
        self._limit = limit
        self.most = 0

    async def watch(self):
        while True:
            balance = (await self._store.balance("anonymous", time.time()))[Window.MONTH]
            self.most = max(self.most, balance.spent + balance.reserved)
            assert self.most <= self._limit
            await asyncio.sleep(0.005)


async def caller(gateways, dice, tries):
    """Makes one call, again while calls in flight or a dead gateway stand in its way; gives what it cost."""
    await asyncio.sleep(dice.uniform(0, 1))
    for _ in range(tries):
        try:
            return (await dice.choice(gateways).stub.Caption(CAPTION, timeout=20)).info.cost_nano_usd
        except grpc.aio.AioRpcError as exc:
            pushback = dict(exc.trailing_metadata() or ()).get("grpc-retry-pushback-ms")
            if exc.code() not in {grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE}:
                raise
            if pushback == "-1":
                return 0
        await asyncio.sleep(0.2)
    return 0


@pytest.fixture
async def worst_case(start_gateway):
    """Nano-USD that a call may cost, as the gateway itself says."""
    gateway = await start_gateway(models={"paid": MODEL})
    quote = await gateway.stub.Quote(pb.QuoteRequest(caption=CAPTION))
    return quote.candidates[0].max_cost_nano_usd


async def open_all(stack, store_url, limit):
    environment = {
        "PYTHONPATH": ":".join(sys.path),
        "VISION_GATEWAY_LEDGER__URL": "off",
        "VISION_GATEWAY_MODELS": json.dumps({"paid": MODEL}),
        "VISION_GATEWAY_IMAGES": json.dumps({"workers": 1}),
        "VISION_GATEWAY_BUDGETS": json.dumps({"store": store_url}),
        "VISION_GATEWAY_PRINCIPALS": json.dumps({"anonymous": {"budget": {"month": str(Decimal(limit) / 10**9)}}}),
    }
    gateways = [Gateway(environment, stack) for _ in range(GATEWAYS)]
    await asyncio.gather(*(gateway.start() for gateway in gateways))
    return gateways


async def test_the_budget_is_used_and_never_exceeded(store_url, open_store, worst_case):
    limit = PAID_FOR * worst_case
    dice = random.Random(1)  # noqa: S311  no secret
    async with AsyncExitStack() as stack:
        store = Shielded(open_store())
        gateways = await open_all(stack, store_url, limit)
        observer = Observer(store, limit)
        watching = asyncio.create_task(observer.watch())

        costs = await asyncio.gather(*(caller(gateways, dice, tries=100) for _ in range(CALLS)))

        watching.cancel()
        await asyncio.wait([watching])
        assert watching.cancelled(), watching.exception()
        balance = (await store.balance("anonymous", time.time()))[Window.MONTH]
    assert (balance.spent, balance.reserved) == (sum(costs), 0)
    assert 0.9 * limit <= balance.spent <= limit
    assert observer.most <= limit


async def test_the_same_while_gateways_are_killed_and_replaced(store_url, open_store, worst_case):
    limit = PAID_FOR * worst_case
    dice = random.Random(2)  # noqa: S311  no secret
    async with AsyncExitStack() as stack:
        store = Shielded(open_store())
        gateways = await open_all(stack, store_url, limit)
        observer = Observer(store, limit)
        watching = asyncio.create_task(observer.watch())

        async def kill_some():
            for share, gateway in zip((0.3, 0.5, 0.7), gateways, strict=False):
                while observer.most < share * limit and not watching.done():  # noqa: ASYNC110  seen from outside
                    await asyncio.sleep(0.005)
                gateway.kill()
            await asyncio.gather(*(gateway.start() for gateway in gateways[:3]))

        killing = asyncio.create_task(kill_some())
        costs = await asyncio.gather(*(caller(gateways, dice, tries=40) for _ in range(CALLS)))
        await killing

        watching.cancel()
        await asyncio.wait([watching])
        assert watching.cancelled(), watching.exception()
        # What those that died had reserved expires, and is charged by the next claim.
        later = time.time() + 2 * LONG_S
        with pytest.raises(Exhausted) as refused:
            await store.reserve(Claim("anonymous", limit, {Window.MONTH: limit}, later, 1.0))
    balance = refused.value.balance
    assert balance.reserved == 0
    assert sum(costs) < balance.spent
    assert 0.9 * limit <= balance.spent <= limit
