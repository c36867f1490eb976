"""Mixed calls under random faults, and whether all books agree afterwards: `python -m tests.load.chaos`.

    python -m tests.load.chaos [--calls 10000] [--seed 1] [--write]

Every RPC, by several principals with budgets, with garbage, cancellations and short deadlines among them; to a gateway
with retries, fallback, escalation, races, shadows and a cache; whose models are aimock, which fails by chance as it is
told to, behind wires that break by chance too, and scripted ones that fail in every way there is. Then callers, log,
ledger, metrics, budgets and aimock's own journal are compared, and nothing may be left over.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import io
import time
from collections import Counter
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import grpc

from gateway.server import log
from tests.fixtures import aimock as aimocks
from tests.fixtures.running_gateway import RunningGateway, gateways
from tests.load import books, chance_wire, page
from tests.load.calling import Told, make
from tests.load.mixed_calls import Call, draw

AT_ONCE = 48
_PATIENCE_S = 30.0
_USAGE = {"input_tokens": 1400, "output_tokens": 138, "total_tokens": 1538}
# What aimock says, by words in the question; the first that matches.
_ANSWERS = [
    ("brokenware", {"content": "It is over there."}),
    ("cut short", {"content": "It is o", "finishReason": "length"}),
    ("filtered", {"error": {"message": "scripted", "code": "content_policy_violation"}, "status": 400}),
    ("teapot", {"content": '{"detections": [{"label": "teapot", "box_2d": [10, 20, 60, 80]}]}'}),
    ("kettle", {"content": '{"labels": [{"label": "kettle"}]}'}),
]
_CHANCES = {"dropRate": 0.04, "malformedRate": 0.03, "disconnectRate": 0.03, "rateLimitRate": 0.03}
_OUTCOMES = [
    *["OK"] * 12,
    "BACKEND_UNAVAILABLE",
    *["OK"] * 6,
    "UNUSABLE_ANSWER",
    *["OK"] * 5,
    "TRUNCATED_ANSWER",
    *["OK"] * 5,
    "UPSTREAM_RATE_LIMITED",
    "OK",
    "OVERLOADED",
    *["OK"] * 5,
    "REFUSED",
    "OK",
    "DEADLINE",
]
AT_PROVIDER = {"first": "gpt-5.5", "second": "gpt-5.5-backup"}
ROUTES = {
    "default": ["first", "second", "cheap"],
    "escalating": {"models": ["cheap", "first", "second"], "escalate": True, "agreement": {"share": 0.2}},
    "racing": {"models": ["first", "free"], "hedge": {"after_s": 0.05}},
    "cheapest": {"models": ["second", "cheap", "free"], "choose": "cheapest"},
    "shadowed": {"models": ["cheap", "free"], "shadow": {"model": "second", "share": 0.3}},
}
PRINCIPALS: dict[str, dict[str, Any]] = {
    "alice": {"budget": {"day": "1000"}},
    "bob": {"budget": {"hour": "0.2", "month": "50"}},
    "carol": {"budget": {"day": "1000"}, "max_inflight": 10, "requests_per_s": 60},
    "dave": {"budget": {"month": "1000"}, "tokens_per_min": 2_000_000},
}


@dataclass
class Run:
    """Everything that is known of a run once it is over."""

    calls: list[Call]
    told: list[Told]
    folder: Path
    wires: dict[str, chance_wire.ChanceWire] = field(default_factory=dict)
    # What aimock calls the models that are behind it.
    provider_names: dict[str, str] = field(default_factory=lambda: AT_PROVIDER)
    journal: list[dict[str, Any]] = field(default_factory=list)
    exposition: str = ""
    log: list[str] = field(default_factory=list)
    # Tasks of the event loop that were not there before the calls, by what they do.
    left_over: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0


def _tables(folder: Path, wires: dict[str, chance_wire.ChanceWire]) -> dict[str, Any]:
    key = folder / "key"
    key.write_text("sk-of-the-run")
    price = {"input": "5", "output": "30"}
    provider = {"kind": "openai", "api_key_file": key, "price": price, "breaker": {"open_s": 0.2, "longest_open_s": 1}}
    scripted = {"kind": "fake", "profile": "gemma4", "repeat": True, "outcomes": _OUTCOMES, "pieces_before_failure": 1}
    return {
        "ledger": {"url": f"sqlite:///{folder}/ledger.db"},
        "budgets": {"store": f"sqlite:///{folder}/budgets.db"},
        "cache": {"store": "memory"},
        "principals": {
            **{
                name: {"key_sha256": [hashlib.sha256(name.encode()).hexdigest()], **table}
                for name, table in PRINCIPALS.items()
            },
            "anonymous": {"budget": {"day": "1"}},
            "shadow": {"budget": {"day": "1000"}},
        },
        "models": {
            **{
                name: {**provider, "base_url": f"{wires[name].url}/v1", "model": model}
                for name, model in AT_PROVIDER.items()
            },
            "cheap": {
                **scripted,
                "price": {"input": "0.060", "output": "0.330"},
                "delay_s": 0.02,
                "max_inflight": 8,
                "max_queue": 8,
            },
            "free": {**scripted, "price": "free", "delay_s": 0.05, "adaptive": True},
        },
        "routes": ROUTES,
        "images": {"workers": 2, "timeout_s": 5},
    }


async def run(*, calls: int, seed: int, folder: Path) -> Run:
    """Makes so many calls, drawn from *seed*, and collects what everybody has to say about them."""
    random = Random(seed)  # noqa: S311  chance, and nothing secret
    stream = io.StringIO()
    log.configure("json", stream=stream)
    async with AsyncExitStack() as stack:
        aimock = stack.enter_context(aimocks.serving(folder, "--journal-max", "0"))
        for words, response in _ANSWERS:
            aimock.add({"match": {"userMessage": words}, "response": _billed(response)})
        aimock.answer("A red box.", usage=_USAGE)
        aimock.fail_by_chance(**_CHANCES)
        wires = {
            name: await stack.enter_async_context(chance_wire.before(aimock.url, Random(random.random())))  # noqa: S311  likewise
            for name in AT_PROVIDER
        }
        planned = [
            draw(random, number, routes=[*ROUTES], models=[*AT_PROVIDER, "cheap", "free"]) for number in range(calls)
        ]
        async with gateways() as start:
            gateway = await start(**_tables(folder, wires))
            await _idle(gateway)
            before, started = _tasks(), time.monotonic()
            told = await _make_all(gateway, planned)
            seconds = time.monotonic() - started
            await _idle(gateway)
            left_over = _tasks() - before
            _, exposition = await gateway.get("/metrics")
        journal = aimock.journal()
    return Run(
        planned,
        told,
        folder,
        wires=wires,
        journal=journal,
        exposition=exposition,
        log=stream.getvalue().splitlines(),
        left_over=left_over,
        seconds=seconds,
    )


def _billed(response: dict[str, Any]) -> dict[str, Any]:
    return response if "error" in response else {**response, "usage": _USAGE}


async def _make_all(gateway: RunningGateway, calls: list[Call]) -> list[Told]:
    slots = asyncio.Semaphore(AT_ONCE)
    async with grpc.aio.insecure_channel(
        gateway.addresses.grpc, [("grpc.enable_retries", 0), ("grpc.use_local_subchannel_pool", 1)]
    ) as channel:

        async def one(call: Call) -> Told:
            async with slots:
                return await make(channel, call)

        return await asyncio.gather(*map(one, calls))


def _tasks() -> Counter[str]:
    """The tasks of the event loop by what they do, those of the wires left out."""
    names = (str(getattr(task.get_coro(), "__qualname__", task)) for task in asyncio.all_tasks())
    return Counter(name for name in names if not name.startswith(("ChanceWire.", "_Connection.")))


async def _idle(gateway: RunningGateway) -> None:
    """Waits until nothing is in flight, at the server or at a model, shadows included."""
    async with asyncio.timeout(_PATIENCE_S):
        while books.at_work((await gateway.get("/metrics"))[1]):  # noqa: ASYNC110  seen from outside
            await asyncio.sleep(0.05)
    # The last of what has ended leaves the loop.
    await asyncio.sleep(0.5)


def main() -> None:
    """Makes the calls, compares, and prints how they ended."""
    parser = argparse.ArgumentParser(prog="python -m tests.load.chaos", description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--write", action="store_true", help="into docs/resilience.md")
    given = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="chaos-")))
        done = asyncio.run(run(calls=given.calls, seed=given.seed, folder=folder))
        found = books.read(done)
    print(told := _told(done, found))
    books.check(done, found)
    if given.write:
        page.write("random-faults", told)


def _told(done: Run, found: books.Books) -> str:
    ended = Counter((each.code, each.reason) for each in done.told)
    rows = [(code, reason or "", f"{count:,}") for (code, reason), count in sorted(ended.items())]
    faults = sum((wire.fates for wire in done.wires.values()), Counter[str]())
    broken = ", ".join(f"{count} {fate}" for fate, count in faults.most_common() if fate != "whole")
    return (
        f"{len(done.calls):,} calls in {done.seconds:.0f} s; {len(found.rows):,} attempts, of which "
        f"{len(done.journal):,} stand in aimock's journal; on the wire {broken}.\n\n"
        + page.table(("Callers were told", "Reason", "Calls"), rows)
    )


if __name__ == "__main__":
    main()
