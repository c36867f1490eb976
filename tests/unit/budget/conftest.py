from __future__ import annotations

from contextlib import AsyncExitStack

import pytest

from gateway.budget.redis import RedisStore
from gateway.budget.sqlite import SqliteStore


@pytest.fixture(params=["sqlite", "redis"])
def store_url(request, tmp_path):
    """Where the store of a test is: a file, or a real Redis."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/budgets.db"
    return request.getfixturevalue("start_redis")()[0]


@pytest.fixture
async def open_store(store_url, tmp_path):
    """Opens one more store on the same data, as another worker does."""
    async with AsyncExitStack() as stack:

        def opened(**options):
            if store_url.startswith("sqlite"):
                store = SqliteStore(tmp_path / "budgets.db", **options)
            else:
                store = RedisStore(store_url, **options)
            stack.push_async_callback(store.aclose)
            return store

        yield opened
