from __future__ import annotations

import asyncio
import time

from prometheus_client import CollectorRegistry

from gateway.metrics import Metrics
from gateway.server import lag


async def test_what_blocks_the_loop_is_recorded():
    registry = CollectorRegistry()
    watching = asyncio.create_task(lag.watch(Metrics(registry), interval_s=0.01))
    await asyncio.sleep(0)
    time.sleep(0.2)  # noqa: ASYNC251  blocking is what is measured
    await asyncio.sleep(0.05)
    watching.cancel()
    slow = registry.get_sample_value("vision_gateway_event_loop_lag_seconds_sum")
    assert slow > 0.1
