"""The scenarios of failoverbench that are about streams, at a provider that streams to a caller who reads a stream."""

from __future__ import annotations

from tests.failover.scenario import both
from tests.failover.stage import Stage
from tests.failover.wire import Fault

# So many of llmock's events come before its first word, and so many with some of them.
_BEFORE, _WITHIN = 1, 8
_BEFORE_FIRST_WORD = Fault(b"event: response.created", "down", "reset")


async def _read(on_stage: Stage) -> str:
    return str(await on_stage.ask(streamed=True))


def _streamed(name: str, fault: str, arm, **more: object):
    return both(name, fault, arm, run=_read, **more)


def _without_end(on_stage: Stage) -> None:
    # To a server, who asks no more has taken what there is for all there is.
    on_stage.unseen = frozenset({"truncated_stream_accepted"})
    on_stage.llmock.truncate(after_chunks=_WITHIN, times=None)


SCENARIOS = [
    *_streamed(
        "slow first token",
        "llmock: the first event after 0.5 s",
        lambda on_stage: on_stage.llmock.slow_first_token(0.5),
    ),
    *_streamed(
        "stream cut before the first word",
        "the wire: RST after llmock's first event, once",
        lambda on_stage: on_stage.wire.break_with(_BEFORE_FIRST_WORD, times=1),
    ),
    *_streamed(
        "stream cut after some words",
        "llmock: drops the connection, always",
        lambda on_stage: on_stage.llmock.disconnect(after_chunks=_WITHIN, times=None),
    ),
    *_streamed(
        "stall before the first word",
        "llmock: silence after its first event, always",
        lambda on_stage: on_stage.llmock.stall(after_chunks=_BEFORE, times=None),
        impatient=True,
    ),
    *_streamed(
        "stall after some words",
        "llmock: silence, always",
        lambda on_stage: on_stage.llmock.stall(after_chunks=_WITHIN, times=None),
        impatient=True,
    ),
    *_streamed(
        "malformed chunk before the first word",
        "aimock: a body that is no stream and not JSON, always",
        lambda on_stage: on_stage.aimock.add(
            {"match": {"model": "gpt-5.5"}, "response": {"content": "A cat."}, "chaos": {"malformedRate": 1}}
        ),
        primary="aimock",
    ),
    *_streamed(
        "malformed chunk after some words",
        "llmock: an event that is not JSON, always",
        lambda on_stage: on_stage.llmock.corrupt(after_chunks=_WITHIN, times=None),
    ),
    *_streamed(
        "missing end before the first word",
        "llmock: ends the stream after its first event, once",
        lambda on_stage: on_stage.llmock.truncate(after_chunks=_BEFORE),
    ),
    *_streamed("missing end after some words", "llmock: ends the stream, always", _without_end),
]
