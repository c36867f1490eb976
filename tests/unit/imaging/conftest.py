from __future__ import annotations

import asyncio

import pytest
import uvloop


class Clock:
    """A clock that tests set."""

    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def pytest_asyncio_loop_factories(config, item):  # noqa: ARG001  the hook's arguments
    """Runs what starts and kills processes on the loop that the gateway runs on too: each loop has its own way."""
    loops = {"asyncio": asyncio.new_event_loop}
    if item.path.name == "test_decode_workers.py":
        loops["uvloop"] = uvloop.new_event_loop
    return loops
