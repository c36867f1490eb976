"""The scenarios of failoverbench that are about streams, on a real Triton, which always streams.

The model there is a stand-in for Gemma 4 that keeps the wire contract until the question says otherwise.
"""

from __future__ import annotations

from tests.failover.scenario import both, nothing
from tests.failover.stage import Stage
from tests.failover.wire import Fault

_CUT = Fault(b"cut here", "down", "reset")


def _told(fault: str):
    async def run(on_stage: Stage) -> str:
        return str(await on_stage.ask(f"fault: {fault}"))

    return run


def _in_stream(name: str, fault: str, told: str, arm=nothing, **more: object):
    return both(name, fault, arm, run=_told(told), primary="triton", **more)


SCENARIOS = [
    *_in_stream("slow first token", "the model: waits for 0.5 s", "slow"),
    *_in_stream(
        "stream cut",
        "the wire: RST after three words, always",
        "cut",
        lambda on_stage: on_stage.wire.break_with(_CUT),
    ),
    *_in_stream("stall", "the model: silence after three words", "stall", impatient=True),
    *_in_stream("malformed chunk", "the model: bytes that are not UTF-8", "malformed"),
    *_in_stream("missing end", "the model: ends the stream without a finish reason", "unfinished"),
    *_in_stream("error in the stream", "the model: INTERNAL after a word", "error"),
]
