from __future__ import annotations

from contextlib import AsyncExitStack

import pytest

from gateway.cache.memory import MemoryStore
from gateway.cache.redis import RedisStore
from gateway.cache.sqlite import SqliteStore

MIB = 1 << 20


class Clock:
    """A clock that moves only when told."""

    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
async def open_store(tmp_path, clock):
    """Opens stores; those in SQLite share one file."""
    async with AsyncExitStack() as stack:

        def opened(kind, *, ttl_s=60.0, max_bytes=MIB):
            if kind == "memory":
                store = MemoryStore(ttl_s=ttl_s, max_bytes=max_bytes, clock=clock)
            elif kind == "sqlite":
                path = tmp_path / "state" / "cache.db"
                store = SqliteStore(path, ttl_s=ttl_s, max_bytes=max_bytes, now=clock)
            else:
                store = RedisStore(kind, ttl_s=ttl_s)
            stack.push_async_callback(store.aclose)
            return store

        yield opened
