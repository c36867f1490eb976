"""A store in Redis or Valkey, shared by the workers of many machines.

Each change is one Lua script, which the server runs alone. The keys of a principal share a hash tag, so that a cluster
keeps them together. Lua's numbers are doubles, exact up to 2**53; sums are made by HINCRBY, in 64-bit integers.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from redis.asyncio import Redis
from redis.exceptions import RedisError

from gateway.budget import KEPT_S, Balance, Exhausted, Reservation, StoreFailed, TooMany, Window

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gateway.budget import Claim

# money: `hour:START:spent` and `hour:START:reserved`, and so on. held: ids by expiry.
# facts: `amount state hour-start day-start month-start` by id.
_COMMON = """
local money, held, facts = KEYS[1], KEYS[2], KEYS[3]
local windows = {'hour', 'day', 'month'}
local function book(starts, kind, amount)
  for i, window in ipairs(windows) do
    redis.call('HINCRBY', money, window .. ':' .. starts[i] .. ':' .. kind, amount)
  end
end
local function parse(fact)
  local amount, state, hour, day, month = string.match(fact, '(%S+) (%S+) (%S+) (%S+) (%S+)')
  return amount, state, {hour, day, month}
end
local function minus(amount)
  -- Redis takes -0 for no number.
  return amount == '0' and '0' or '-' .. amount
end
local function keep(seconds)
  for _, key in ipairs(KEYS) do redis.call('EXPIRE', key, seconds) end
end
"""
# ARGV: id, amount, now, expires_at, 1 to charge what expired, seconds to keep, three starts, three limits (or -1).
_RESERVE = (
    _COMMON
    + """
-- The client sends again what it lost the answer of.
if redis.call('HEXISTS', facts, ARGV[1]) == 1 then return {} end
local amount, now, kept = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[6])
for _, id in ipairs(redis.call('ZRANGEBYSCORE', held, '-inf', ARGV[3])) do
  local lost, _, starts = parse(redis.call('HGET', facts, id))
  local state = 'released'
  if ARGV[5] == '1' then
    state = 'charged'
    book(starts, 'spent', lost)
  end
  book(starts, 'reserved', minus(lost))
  redis.call('HSET', facts, id, table.concat({lost, state, starts[1], starts[2], starts[3]}, ' '))
  redis.call('ZREM', held, id)
end
local starts = {ARGV[7], ARGV[8], ARGV[9]}
for i, window in ipairs(windows) do
  local field = window .. ':' .. starts[i] .. ':'
  local spent = redis.call('HGET', money, field .. 'spent') or '0'
  local reserved = redis.call('HGET', money, field .. 'reserved') or '0'
  local limit = tonumber(ARGV[9 + i])
  if limit >= 0 and tonumber(spent) + tonumber(reserved) + tonumber(amount) > limit then
    return {window, spent, reserved}
  end
end
if redis.call('HEXISTS', money, 'hour:' .. starts[1] .. ':reserved') == 0 then
  for _, field in ipairs(redis.call('HKEYS', money)) do
    if tonumber(string.match(field, ':(%d+):')) < now - kept then redis.call('HDEL', money, field) end
  end
  local all = redis.call('HGETALL', facts)
  for i = 1, #all, 2 do
    local _, state, begun = parse(all[i + 1])
    if state ~= 'held' and tonumber(begun[1]) < now - kept then redis.call('HDEL', facts, all[i]) end
  end
end
book(starts, 'reserved', amount)
redis.call('ZADD', held, ARGV[4], ARGV[1])
redis.call('HSET', facts, ARGV[1], table.concat({amount, 'held', starts[1], starts[2], starts[3]}, ' '))
keep(kept)
return {}
"""
)
# ARGV: id, actual, seconds to keep.
_SETTLE = (
    _COMMON
    + """
local fact = redis.call('HGET', facts, ARGV[1])
if not fact then return 0 end
local amount, state, starts = parse(fact)
if state == 'held' then book(starts, 'reserved', minus(amount)) end
if state == 'charged' then book(starts, 'spent', minus(amount)) end
book(starts, 'spent', ARGV[2])
redis.call('ZREM', held, ARGV[1])
redis.call('HDEL', facts, ARGV[1])
keep(tonumber(ARGV[3]))
return 1
"""
)
# ARGV: place, most, now, expires_at, seconds to keep.
_ENTER = """
if redis.call('ZSCORE', KEYS[1], ARGV[1]) then return 1 end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', ARGV[3])
if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[2]) then return 0 end
redis.call('ZADD', KEYS[1], ARGV[4], ARGV[1])
redis.call('EXPIRE', KEYS[1], ARGV[5])
return 1
"""
# A store that is this slow counts as down, seconds.
PATIENCE_S = 2.0


class RedisStore:
    """The store at one URL, such as `redis://host:6379/0`."""

    def __init__(self, url: str, *, charge_expired: bool = True) -> None:
        """*charge_expired* charges what expires in full, else releases it. Connects at the first use."""
        self._redis: Redis = Redis.from_url(
            url, decode_responses=True, socket_timeout=PATIENCE_S, socket_connect_timeout=PATIENCE_S
        )
        self._charge_expired = charge_expired
        self._reserve = self._redis.register_script(_RESERVE)
        self._settle = self._redis.register_script(_SETTLE)
        self._enter = self._redis.register_script(_ENTER)

    async def reserve(self, claim: Claim) -> Reservation:
        """See `Store`."""
        identity = uuid4().hex
        starts = [window.starts_at(claim.now) for window in Window]
        limits = [claim.limits.get(window, -1) for window in Window]
        expires_at = claim.now + claim.lease_s
        arguments: list[str | int | float] = [
            identity,
            claim.amount,
            claim.now,
            expires_at,
            int(self._charge_expired),
            KEPT_S,
            *starts,
            *limits,
        ]
        with _failures():
            obstacle: Any = await self._reserve(_keys(claim.principal), arguments)
        if not obstacle:
            return Reservation(identity, claim.principal, claim.amount)
        window = Window(obstacle[0])
        balance = Balance(int(obstacle[1]), int(obstacle[2]))
        raise Exhausted(window, limit=claim.limits[window], balance=balance, resets_at=window.ends_at(claim.now))

    async def settle(self, reservation: Reservation, actual: int) -> None:
        """See `Store`."""
        with _failures():
            await self._settle(_keys(reservation.principal), [reservation.id, actual, KEPT_S])

    async def balance(self, principal: str, now: float) -> dict[Window, Balance]:
        """See `Store`."""
        fields = [
            f"{window.value}:{window.starts_at(now)}:{kind}" for window in Window for kind in ("spent", "reserved")
        ]
        with _failures():
            found: Any = await self._redis.hmget(_keys(principal)[0], fields)
        amounts = [int(each or 0) for each in found]
        return {window: Balance(*amounts[2 * i : 2 * i + 2]) for i, window in enumerate(Window)}

    async def enter(self, principal: str, most: int, *, now: float, lease_s: float) -> str:
        """See `Store`."""
        place = uuid4().hex
        with _failures():
            entered = await self._enter([_places(principal)], [place, most, now, now + lease_s, KEPT_S])
        if not entered:
            raise TooMany
        return place

    async def leave(self, principal: str, place: str) -> None:
        """See `Store`."""
        with _failures():
            await self._redis.zrem(_places(principal), place)

    async def aclose(self) -> None:
        """See `Store`."""
        await self._redis.aclose()


@contextmanager
def _failures() -> Iterator[None]:
    try:
        yield
    except (RedisError, OSError) as exc:
        raise StoreFailed("the Redis store of the budgets failed") from exc


def _keys(principal: str) -> list[str]:
    return [f"vision-gateway:{{{principal}}}:{kind}" for kind in ("money", "held", "facts")]


def _places(principal: str) -> str:
    return f"vision-gateway:{{{principal}}}:places"
