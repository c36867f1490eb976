"""What one scenario happens on: a whole gateway, a real client before it, and servers that others wrote behind it."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import grpc
from llmock.pytest_plugin import LLMock
from llmock.testing import LLMockServer
from llmock.verdict import judge
from sqlalchemy import select

from gateway.ledger.table import ATTEMPTS, connect
from tests.failover import tritons, wire
from tests.failover.told import Told, answered, failed
from tests.fixtures import aimock as aimocks
from tests.fixtures.pictures import encode, stored
from tests.fixtures.running_gateway import gateways
from visiongateway.v1 import image_pb2, vision_service_pb2 as pb

PRIMARY, BACKUP = "primary", "backup"
# What aimock tells the two apart by.
PRIMARY_AT_PROVIDER, BACKUP_AT_PROVIDER = "gpt-5.5", "gpt-5.5-backup"
USAGE = {"input_tokens": 1400, "output_tokens": 138, "total_tokens": 1538}
_PATIENCE_S = 5
# A busy disk would take the time of calls that have little of it.
_LEDGERS = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108  a folder of its own is made there
_PRICE = {"input": "5", "output": "30"}
# A caller's clock and the gateway's run out at the same time, and either may be the first to say so.
_TIME_IS_UP = {"CANCELLED": "DEADLINE", "DEADLINE": "DEADLINE"}


@dataclass(frozen=True)
class Upstreams:
    """Servers that others wrote; all scenarios share them, one after another."""

    llmock_server: LLMockServer
    aimock: aimocks.Aimock
    triton: tritons.Triton


@contextmanager
def upstreams():
    """Runs them; raises `AimockUnavailable` or `TritonUnavailable`."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="failover-")))
        triton = stack.enter_context(tritons.installed(folder / "triton"))
        aimock = stack.enter_context(aimocks.serving(folder))
        yield Upstreams(stack.enter_context(LLMockServer()), aimock, triton)


@dataclass
class Stage:
    """One gateway with the models of one scenario."""

    upstreams: Upstreams
    wire: wire.Wire
    gateway: object
    llmock: LLMock
    timeout_s: float
    told: list[Told] = field(default_factory=list)
    # The attempts that the ledger has, in order, once the gateway has ended.
    asked: list[tuple[str, str]] = field(default_factory=list)
    # Servers that die keep no journal of what they were sent last.
    keeps_journal: bool = True
    # What the caller of a stream has read.
    words: list[str] = field(default_factory=list)
    # Findings of llmock's that it only has because it cannot see what callers are told.
    unseen: frozenset[str] = frozenset()
    # Further seconds, by what was measured.
    measured: dict[str, float] = field(default_factory=dict)
    numbers: count = field(default_factory=lambda: count(1))

    @property
    def aimock(self):
        return self.upstreams.aimock

    @property
    def triton(self):
        return self.upstreams.triton

    async def ask(self, say="", *, timeout_s=None, streamed=False):
        """Makes one call, of a question that no other has: servers tell retries by equal bodies."""
        request_id = f"call-{next(self.numbers)}"
        asked = {
            "image": image_pb2.Image(data=encode(stored(), "PNG")),
            "question": f"What is this? {say} ({request_id})",
        }
        how = {"timeout": timeout_s or self.timeout_s, "metadata": [("x-request-id", request_id)]}
        started = time.monotonic()
        try:
            if streamed:
                response = await self._read(self.gateway.stub.StreamVQA(pb.StreamVQARequest(**asked), **how), started)
            else:
                response = await self.gateway.stub.VQA(pb.VQARequest(**asked), **how)
            told = answered(request_id, response, time.monotonic() - started)
        except grpc.aio.AioRpcError as error:
            told = failed(request_id, error, time.monotonic() - started)
        self.told.append(told)
        return told

    async def _read(self, call, started):
        """Reads a stream to its end; the words that came are those of the answer."""
        async for message in call:
            if message.HasField("answer"):
                assert "".join(self.words).strip() == message.answer.answer
                return message.answer
            if not self.words:
                self.measured["first word after"] = time.monotonic() - started
            self.words.append(message.delta)
        raise AssertionError("a stream without an answer ended well")


@asynccontextmanager
async def stage(upstreams, models, *, primary="llmock", timeout_s=10.0):
    """Starts a gateway whose route has *models*, the first of them at *primary*, and checks its books in the end."""
    upstreams.aimock.reset()
    llmock = LLMock(upstreams.llmock_server).reset()
    if primary in ("triton", "stranger"):
        await upstreams.triton.start()
    asked_before = upstreams.triton.asked()
    targets = {"llmock": llmock.url, "aimock": upstreams.aimock.url}
    with TemporaryDirectory(prefix="failover-", dir=_LEDGERS) as folder:
        ledger = f"sqlite:///{folder}/ledger.db"
        key = await asyncio.to_thread(_key, folder)
        async with wire.before(targets.get(primary, upstreams.triton.address)) as wired:
            async with gateways() as start:
                gateway = await start(
                    models={name: _model(name, primary, wired, upstreams.aimock, key) for name in models},
                    ledger={"url": ledger},
                    images={"workers": 1},
                    # A look at the readiness of a server that was told to fail once would be what fails.
                    server={"readiness_interval_s": 60} if primary in targets else {},
                )
                on_stage = Stage(upstreams, wired, gateway, llmock, timeout_s)
                yield on_stage
                await _idle(gateway)
            rows = await asyncio.to_thread(_rows, ledger)
            # Without waiting for those that it has not answered yet.
            records = upstreams.llmock_server.state.journal.records()
            journal = _journal(on_stage, primary, records, wired.swallowed, asked_before)
    on_stage.asked = [(row.model, _TIME_IS_UP.get(row.reason, row.reason)) for row in rows]
    _check_books(on_stage, rows, journal)
    _check_verdict(on_stage, judge(records))


async def _idle(gateway):
    """Waits until no call is in flight: whatever befell them, all have ended."""
    async with asyncio.timeout(_PATIENCE_S):
        while 'vision_gateway_inflight{scope="server"} 0.0' not in (await gateway.get("/metrics"))[1]:  # noqa: ASYNC110  seen from outside
            await asyncio.sleep(0.01)


def _key(folder):
    file = Path(folder, "key")
    file.write_text("sk-of-the-scenario")
    return file


def _model(name, primary, wired, aimock, key):
    if name == PRIMARY and primary in ("triton", "stranger"):
        served = tritons.STRANGER if primary == "stranger" else tritons.MODEL
        return {"kind": "triton", "address": wired.address, "model": served}
    base_url = f"http://{wired.address}/v1" if name == PRIMARY else aimock.base_url
    return {
        "kind": "openai",
        "base_url": base_url,
        "model": PRIMARY_AT_PROVIDER if name == PRIMARY else BACKUP_AT_PROVIDER,
        "api_key_file": key,
        "price": _PRICE,
    }


def _journal(on_stage, primary, records, swallowed, asked_before):
    """Counts the calls that each model's server was sent, by the servers' own records."""
    at_aimock = Counter(entry["body"]["model"] for entry in on_stage.aimock.journal() if entry["method"] == "POST")
    if primary == "llmock":
        unanswered = on_stage.upstreams.llmock_server.state.journal.in_flight
        sent = sum(record.method == "POST" for record in records) + unanswered
    elif primary == "aimock":
        sent = at_aimock[PRIMARY_AT_PROVIDER]
    else:
        sent = on_stage.triton.asked() - asked_before
    return {PRIMARY: sent + swallowed, BACKUP: at_aimock[BACKUP_AT_PROVIDER]}


def _rows(url):
    engine = connect(url, create=False)
    try:
        with engine.connect() as connection:
            return connection.execute(select(ATTEMPTS).order_by(ATTEMPTS.c.time_us)).all()
    finally:
        engine.dispose()


def _check_verdict(on_stage, verdict):
    """The findings of llmock's own are those that the scenario knows of, and no other."""
    found = {finding.code for finding in verdict.errors}
    assert found == on_stage.unseen, verdict.errors


def _check_books(on_stage, rows, journal):
    """What callers were told, the ledger and the servers' own journals are the same attempts and the same money."""
    for told in on_stage.told:
        own = [row for row in rows if row.request_id == told.request_id]
        if told.code != "DEADLINE_EXCEEDED":
            # Who gives up by its own clock is told nothing.
            assert told.cost_nano_usd == sum(row.cost_nano_usd for row in own), told
        if told.code == "OK":
            assert told.attempts == tuple((row.model, row.reason) for row in own), told
            assert (told.model, "") == told.attempts[-1], told
        elif told.code != "DEADLINE_EXCEEDED":
            assert told.partial == bool(on_stage.words), told
    if on_stage.keeps_journal:
        asked = Counter(row.model for row in rows)
        assert {name: asked[name] for name in journal} == journal, (asked, journal)
