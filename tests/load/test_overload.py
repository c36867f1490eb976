"""Of more calls than can be answered, the rest is told so in order, and none is lost."""

from __future__ import annotations

from tests.load import overload
from tests.load.arrivals import Plan

# Beyond it, a call in the queue costs much more than its image.
MOST_MIB = 700


def test_what_cannot_be_answered_is_told_so_and_what_was_taken_is_not_lost(tmp_path):
    message = str(overload.message(tmp_path, "Caption"))
    with overload.stage(overload.SCENARIOS["model"], tmp_path / "gateway") as gateway:
        # About three times what the model can take. `run_level` holds the gateway's own counters to what callers were
        # told.
        level = overload.run_level(gateway, Plan(gateway.address, "Caption", message, seconds=4, rate=80, seed=1))

    assert {*level.other} <= {"DEADLINE_EXCEEDED"}
    assert level.answered
    assert level.shed
    assert level.resident_mib < MOST_MIB
