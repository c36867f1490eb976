"""The 16 scenarios of failoverbench, at a provider whose answers come whole.

What they say of streams is here said of the body of the answer.
"""

from __future__ import annotations

import asyncio
import time

from tests.failover import wire
from tests.failover.scenario import WITH_BACKUP, Scenario, both, nothing
from tests.failover.stage import BACKUP_AT_PROVIDER, PRIMARY, PRIMARY_AT_PROVIDER, Stage

CALLS = 10
# More of them than failures open a breaker.
TOO_LONG = 6
_PATIENCE_S = 30


def _breaks(fault: wire.Fault, **times: int):
    return lambda on_stage: on_stage.wire.break_with(fault, **times)


def _aimock(**fixture: object):
    added = {"match": {"model": PRIMARY_AT_PROVIDER}, "response": {"content": "A cat."}, **fixture}
    return lambda on_stage: on_stage.aimock.add(added)


def _error(status: int, code: str = ""):
    return {"error": {"message": "scripted", "code": code}, "status": status}


def _twice_without_retry_after(on_stage: Stage) -> None:
    on_stage.wire.hide(b"Retry-After")
    for count in range(2):
        match = {"model": PRIMARY_AT_PROVIDER, "sequenceIndex": count}
        on_stage.aimock.add({"match": match, "response": _error(429, "rate_limit_exceeded")})
    _aimock()(on_stage)


def _always_without_retry_after(on_stage: Stage) -> None:
    on_stage.wire.hide(b"Retry-After")
    _aimock(response=_error(429, "rate_limit_exceeded"))(on_stage)


def _refusing_backup(on_stage: Stage) -> None:
    on_stage.llmock.outage()
    response = _error(400, "content_policy_violation")
    on_stage.aimock.add({"match": {"model": BACKUP_AT_PROVIDER}, "response": response})


async def _flapping(on_stage: Stage) -> str:
    told = []
    for number in range(CALLS):
        if number % 2:
            on_stage.llmock.fail(503, retry_after=0.1)
        told.append(await on_stage.ask())
    return f"{sum(each.code == 'OK' for each in told)} of {CALLS} answered"


async def _down_and_up(on_stage: Stage) -> str:
    down = [await on_stage.ask() for _ in range(CALLS)]
    on_stage.upstreams.llmock_server.state.scenarios.clear()
    started = time.monotonic()
    async with asyncio.timeout(_PATIENCE_S):
        while (last := await on_stage.ask()).model != PRIMARY:
            down.append(last)
            await asyncio.sleep(0.05)
    on_stage.measured["back after"] = time.monotonic() - started
    while_down = ", ".join(sorted({str(each) for each in down}))
    spared = sum(PRIMARY not in dict(each.attempts or ()) for each in down)
    pause = "the primary spared" if spared else "the primary never spared"
    return f"while down: {while_down}, {pause}; then: {last}"


async def _too_long_and_then_well(on_stage: Stage) -> str:
    long = [str(await on_stage.ask()) for _ in range(TOO_LONG)]
    [outcome] = set(long)
    return f"{outcome}; the call after {TOO_LONG} of them: {await on_stage.ask()}"


async def _bill(on_stage: Stage) -> str:
    told = await on_stage.ask()
    return f"{told}, at {told.cost_nano_usd} nano-USD: {told.answer}"


SCENARIOS = [
    *both(
        "429 with Retry-After",
        "llmock: 429, Retry-After 1 s, once",
        lambda on_stage: on_stage.llmock.rate_limit(retry_after=1),
    ),
    *both(
        "429 without Retry-After",
        "aimock: 429, twice; the wire takes out its Retry-After",
        _twice_without_retry_after,
        primary="aimock",
    ),
    *both(
        "429 without Retry-After, persistent",
        "aimock: 429, always; the wire takes out its Retry-After",
        _always_without_retry_after,
        primary="aimock",
    ),
    *both("one 500", "llmock: 500, once", lambda on_stage: on_stage.llmock.fail(500)),
    *both("persistent 503", "aimock: 503, always", _aimock(response=_error(503)), primary="aimock"),
    *both("TCP reset", "the wire: RST in place of an answer, once", _breaks(wire.RESET_BEFORE_ANSWER, times=1)),
    *both(
        "no response",
        "llmock: answers after 6 s",
        lambda on_stage: on_stage.llmock.delay(6, times=None),
        impatient=True,
    ),
    *both("slow first token", "llmock: answers after 0.5 s", lambda on_stage: on_stage.llmock.delay(0.5)),
    *both("stream cut", "the wire: closed within llmock's answer, once", _breaks(wire.CUT_BODY, times=1)),
    *both(
        "stall",
        "the wire: silence within llmock's answer, always",
        _breaks(wire.STALLED_BODY),
        impatient=True,
    ),
    *both(
        "malformed chunk",
        "aimock: an answer that is not JSON, always",
        _aimock(chaos={"malformedRate": 1}),
        primary="aimock",
    ),
    *both(
        "missing end",
        "aimock: an answer whose status is in_progress, always",
        _aimock(response={"content": "A cat", "finishReason": "in_progress"}),
        primary="aimock",
    ),
    *both(
        "context length",
        "llmock: 400, context_length_exceeded, 6 times",
        lambda on_stage: on_stage.llmock.context_overflow(times=TOO_LONG),
        run=_too_long_and_then_well,
    ),
    *both(
        "content filter",
        "llmock: 400, content_policy_violation, always",
        lambda on_stage: on_stage.llmock.fail(400, code="content_policy_violation", times=None),
    ),
    Scenario(
        "fallback refuses",
        "llmock: 503, always; aimock, the backup: 400, content_policy_violation",
        WITH_BACKUP,
        _refusing_backup,
    ),
    *both(
        "flapping primary",
        "llmock: 503, Retry-After 0.1 s, at every other of 10 calls",
        nothing,
        run=_flapping,
    ),
    Scenario(
        "flapping primary, down for long",
        "llmock: 503, Retry-After 1 s, at 10 calls and all that follow; then well",
        WITH_BACKUP,
        lambda on_stage: on_stage.llmock.outage(),
        _down_and_up,
    ),
    Scenario(
        "accounting after fail-over",
        "llmock: 503, always; aimock, the backup, bills 1,400 and 138 tokens at $5 and $30 a million",
        WITH_BACKUP,
        lambda on_stage: on_stage.llmock.outage(),
        _bill,
    ),
]
