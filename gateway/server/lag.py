"""Measures how late the event loop is: whatever blocks it makes every call wait."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.metrics import Metrics


async def watch(metrics: Metrics, interval_s: float = 0.25) -> None:
    """Records, forever, by how much a sleep of *interval_s* seconds took too long."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + interval_s
        await asyncio.sleep(interval_s)
        metrics.loop_lag(max(loop.time() - due, 0.0))
