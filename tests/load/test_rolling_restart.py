"""Two replicas are restarted under callers that never pause, and every call is answered."""

from __future__ import annotations

from tests.load import rolling_restart


async def test_a_rolling_restart_loses_no_call(tmp_path):
    outcome = await rolling_restart.run(calls=2_000, callers=40, restarts=2, folder=tmp_path)

    assert (outcome.lost, outcome.exits) == (0, [0, 0])
    assert outcome.ended["OK"] >= 2_000
