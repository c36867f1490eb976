"""A store in Redis or Valkey, shared by the workers of many machines, which bounds its memory by its own settings.

A claim is a key of its own that expires by itself. Its hash tag is the whole name of the answer's key, so that a
cluster keeps the two together.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from gateway.cache import LEASE_S, Claimed, StoreFailed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gateway.cache import Claim

_MOST_CONNECTIONS = 32
_MS = 1000
# KEYS: answer, claim. ARGV: holder, milliseconds. Who holds it already may ask again: the client sends again what it
# lost the answer of. A server that is full, or takes no writes, still gives what it has.
_GET_OR_CLAIM = """
local kept = redis.call('GET', KEYS[1])
if kept then return kept end
local holder = redis.call('GET', KEYS[2])
if holder and holder ~= ARGV[1] then return 0 end
if redis.pcall('SET', KEYS[2], ARGV[1], 'PX', ARGV[2]).err then return -1 end
return 1
"""
# The same KEYS. ARGV: holder.
_RELEASE = "if redis.call('GET', KEYS[2]) == ARGV[1] then redis.call('DEL', KEYS[2]) end"
# ARGV: holder, answer, milliseconds.
_PUT = f"redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) {_RELEASE}"
_CLAIMED = {1: Claimed.MINE, 0: Claimed.ANOTHERS, -1: None}


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
        self._get_or_claim = self._redis.register_script(_GET_OR_CLAIM)
        self._put = self._redis.register_script(_PUT)
        self._release = self._redis.register_script(_RELEASE)

    async def get(self, key: bytes) -> bytes | None:
        """See `Store`."""
        with _failures():
            # Bytes, since the connections decode nothing.
            return cast("bytes | None", await self._redis.get(_name(key)))

    async def get_or_claim(self, claim: Claim) -> bytes | Claimed | None:
        """See `Store`."""
        with _failures():
            found: Any = await self._get_or_claim(_names(claim), [claim.holder, round(LEASE_S * _MS)])
        return found if isinstance(found, bytes) else _CLAIMED[found]

    async def put(self, key: bytes, value: bytes, claim: Claim | None = None) -> None:
        """See `Store`."""
        with _failures():
            if claim is None:
                await self._redis.set(_name(key), value, px=self._ttl_ms)
            else:
                await self._put(_names(claim), [claim.holder, value, self._ttl_ms])

    async def release(self, claim: Claim) -> None:
        """See `Store`."""
        with _failures():
            await self._release(_names(claim), [claim.holder])

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


def _names(claim: Claim) -> list[str]:
    name = _name(claim.key)
    return [name, f"{{{name}}}:claim:{claim.kind}"]
