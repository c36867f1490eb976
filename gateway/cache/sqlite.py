"""A store in one SQLite file, shared by all workers on one machine.

Statements run in a thread of their own, so that waiting for another worker's never holds up the event loop.
"""

from __future__ import annotations

import asyncio
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from gateway import wal
from gateway.cache import LEASE_S, Claimed, StoreFailed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gateway.cache import Claim
    from gateway.domain import Clock

_T = TypeVar("_T")
_SCHEMA = """
CREATE TABLE IF NOT EXISTS answers (key BLOB PRIMARY KEY, value BLOB NOT NULL, expires_at REAL NOT NULL);
CREATE INDEX IF NOT EXISTS answers_by_expiry ON answers (expires_at);
CREATE TABLE IF NOT EXISTS claims (
    key BLOB NOT NULL, kind TEXT NOT NULL, holder TEXT NOT NULL, expires_at REAL NOT NULL,
    PRIMARY KEY (key, kind)
) WITHOUT ROWID;
"""
_GET = "SELECT value FROM answers WHERE key = ? AND expires_at > ?"
_IS_ANOTHERS = "SELECT 1 FROM claims WHERE key = ? AND kind = ? AND holder != ? AND expires_at > ?"

_PUT = """
INSERT INTO answers VALUES (?, ?, ?)
ON CONFLICT DO UPDATE SET value = excluded.value, expires_at = excluded.expires_at
"""
_USED_BYTES = """
SELECT (page_count - freelist_count) * page_size FROM pragma_page_count, pragma_freelist_count, pragma_page_size
"""
# Of a full store so large a share goes at once, the oldest first.
_MAKE_ROOM = """
DELETE FROM answers WHERE key IN (
    SELECT key FROM answers ORDER BY expires_at LIMIT (SELECT max(count(*) / 16, 1) FROM answers)
)
"""
# Seconds to wait for other workers.
_PATIENCE_S = 1.0


class SqliteStore:
    """The store; the file and its folder are made at the first use. A full store lets the oldest answers go."""

    def __init__(self, path: Path, *, ttl_s: float, max_bytes: int, now: Clock) -> None:
        """Keeps an answer for *ttl_s* seconds of *now*, a wall clock, and *max_bytes* of the file in use."""
        self._path = path
        self._ttl_s = ttl_s
        self._max_bytes = max_bytes
        self._now = now
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="cache")
        self._connection: sqlite3.Connection | None = None

    async def get(self, key: bytes) -> bytes | None:
        """See `Store`."""
        return await self._run(partial(self._get, key))

    async def get_or_claim(self, claim: Claim) -> bytes | Claimed | None:
        """See `Store`."""
        return await self._run(partial(self._get_or_claim, claim))

    async def put(self, key: bytes, value: bytes, claim: Claim | None = None) -> None:
        """See `Store`."""
        await self._run(partial(self._put, key, value, claim))

    async def release(self, claim: Claim) -> None:
        """See `Store`."""
        await self._run(partial(self._release, claim))

    async def aclose(self) -> None:
        """See `Store`."""
        await self._run(self._close)
        self._thread.shutdown(wait=False)

    async def _run(self, work: Callable[[], _T]) -> _T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except (sqlite3.Error, OSError) as exc:
            raise StoreFailed("the SQLite store of the cache failed") from exc

    def _get(self, key: bytes) -> bytes | None:
        connection = self._connection or self._connect()
        row = connection.execute(_GET, (key, self._now())).fetchone()
        return None if row is None else bytes(row[0])

    def _get_or_claim(self, claim: Claim) -> bytes | Claimed | None:
        connection = self._connection or self._connect()
        # Read first: hits, and those who wait for another's answer, keep no worker from writing.
        found = self._look(connection, claim)
        if found:
            return found
        try:
            connection.execute("BEGIN IMMEDIATE")
            with connection:
                # Again, now that nobody else can come between.
                return self._look(connection, claim) or self._claim(connection, claim)
        except sqlite3.OperationalError:
            # On a full disk what is kept can still be read.
            return None

    def _look(self, connection: sqlite3.Connection, claim: Claim) -> bytes | Claimed | None:
        if kept := self._get(claim.key):
            return kept
        known = (claim.key, claim.kind, claim.holder, self._now())
        return Claimed.ANOTHERS if connection.execute(_IS_ANOTHERS, known).fetchone() else None

    def _claim(self, connection: sqlite3.Connection, claim: Claim) -> Claimed:
        now = self._now()
        connection.execute("DELETE FROM claims WHERE expires_at <= ?", (now,))
        row = (claim.key, claim.kind, claim.holder, now + LEASE_S)
        connection.execute("INSERT OR REPLACE INTO claims VALUES (?, ?, ?, ?)", row)
        return Claimed.MINE

    def _release(self, claim: Claim) -> None:
        _let_go(self._connection or self._connect(), claim)

    def _put(self, key: bytes, value: bytes, claim: Claim | None) -> None:
        connection = self._connection or self._connect()
        now = self._now()
        connection.execute("BEGIN IMMEDIATE")
        # Commits, or rolls back.
        with connection:
            connection.execute("DELETE FROM answers WHERE expires_at <= ?", (now,))
            connection.execute(_PUT, (key, value, now + self._ttl_s))
            if claim:
                _let_go(connection, claim)
            while self._is_full(connection) and connection.execute(_MAKE_ROOM).rowcount:
                pass

    def _is_full(self, connection: sqlite3.Connection) -> bool:
        used: int = connection.execute(_USED_BYTES).fetchone()[0]
        return used > self._max_bytes

    def _connect(self) -> sqlite3.Connection:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        # What was read from images is nobody else's to read; SQLite makes its further files alike.
        self._path.touch(mode=0o600)
        connection = sqlite3.connect(self._path, timeout=_PATIENCE_S, isolation_level=None)
        try:
            wal.switch_on(connection, patience_s=_PATIENCE_S)
            connection.executescript(_SCHEMA)
        except sqlite3.Error:
            connection.close()
            raise
        self._connection = connection
        return connection

    def _close(self) -> None:
        if self._connection:
            self._connection.close()
            self._connection = None


def _let_go(connection: sqlite3.Connection, claim: Claim) -> None:
    whole = (claim.key, claim.kind, claim.holder)
    connection.execute("DELETE FROM claims WHERE key = ? AND kind = ? AND holder = ?", whole)
