"""A store in Redis or Valkey, shared by the workers of many machines, which bounds its memory by its own settings."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from gateway.cache import StoreFailed

if TYPE_CHECKING:
    from collections.abc import Iterator

_MOST_CONNECTIONS = 32
_MS = 1000


class RedisStore:
    """The store at one URL, such as `redis://host:6379/0`."""

    def __init__(self, url: str, *, ttl_s: float, patience_s: float = 0.25) -> None:
        """Keeps an answer for *ttl_s* seconds; a server that is silent for *patience_s* counts as down."""
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=_MOST_CONNECTIONS,
            timeout=patience_s,
            socket_timeout=patience_s,
            socket_connect_timeout=patience_s,
            # Once, at once: a connection that lay idle may have been closed.
            retry=Retry(NoBackoff(), 1),
        )
        self._redis: Redis = Redis.from_pool(pool)
        self._ttl_ms = max(round(ttl_s * _MS), 1)

    async def get(self, key: bytes) -> bytes | None:
        """See `Store`."""
        with _failures():
            # Bytes, since the connections decode nothing.
            return cast("bytes | None", await self._redis.get(_name(key)))

    async def put(self, key: bytes, value: bytes) -> None:
        """See `Store`."""
        with _failures():
            await self._redis.set(_name(key), value, px=self._ttl_ms)

    async def aclose(self) -> None:
        """See `Store`."""
        await self._redis.aclose()


@contextmanager
def _failures() -> Iterator[None]:
    try:
        yield
    except (RedisError, OSError) as exc:
        raise StoreFailed("the Redis store of the cache failed") from exc


def _name(key: bytes) -> str:
    return f"vision-gateway:cache:{key.hex()}"
