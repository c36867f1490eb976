"""A store in one SQLite file, shared by all workers on one machine.

Writes are `BEGIN IMMEDIATE` transactions in a thread of their own, so that waiting for another worker's never holds up
the event loop. With `synchronous=NORMAL` in WAL mode a killed process loses nothing; a power cut may lose the last
moments (https://www.sqlite.org/pragma.html#pragma_synchronous).
"""

from __future__ import annotations

import asyncio
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, TypeVar
from uuid import uuid4

from gateway import wal
from gateway.budget import KEPT_S, Balance, Exhausted, Reservation, StoreFailed, TooMany, Window

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from gateway.budget import Claim

_T = TypeVar("_T")
_SCHEMA = """
CREATE TABLE IF NOT EXISTS money (
    principal TEXT NOT NULL, window TEXT NOT NULL, starts_at INTEGER NOT NULL,
    spent INTEGER NOT NULL DEFAULT 0, reserved INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (principal, window, starts_at)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS reservations (
    id TEXT PRIMARY KEY, principal TEXT NOT NULL, amount INTEGER NOT NULL, expires_at REAL NOT NULL,
    hour INTEGER NOT NULL, day INTEGER NOT NULL, month INTEGER NOT NULL,
    state TEXT NOT NULL DEFAULT 'held' CHECK (state IN ('held', 'charged', 'released'))
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS reservations_by_expiry ON reservations (principal, state, expires_at);
CREATE TABLE IF NOT EXISTS places (
    id TEXT PRIMARY KEY, principal TEXT NOT NULL, expires_at REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS places_by_principal ON places (principal, expires_at);
"""
_BOOK = """
INSERT INTO money (principal, window, starts_at, spent, reserved) VALUES (?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET spent = spent + excluded.spent, reserved = reserved + excluded.reserved
"""


class SqliteStore:
    """The store; the file and its folder are made at the first use."""

    def __init__(self, path: Path, *, charge_expired: bool = True, patience_s: float = 5.0) -> None:
        """*charge_expired* charges what expires in full, else releases it; *patience_s* is waited for other workers."""
        self._path = path
        self._charge_expired = charge_expired
        self._patience_s = patience_s
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="budget")
        self._connection: sqlite3.Connection | None = None

    async def reserve(self, claim: Claim) -> Reservation:
        """See `Store`."""
        return await self._run(partial(self._reserve, claim))

    async def settle(self, reservation: Reservation, actual: int) -> None:
        """See `Store`."""
        await self._run(partial(self._settle, reservation.id, actual))

    async def balance(self, principal: str, now: float) -> dict[Window, Balance]:
        """See `Store`."""
        return await self._run(partial(self._balance, principal, now))

    async def enter(self, principal: str, most: int, *, now: float, lease_s: float) -> str:
        """See `Store`."""
        return await self._run(partial(self._enter, principal, most, now, now + lease_s))

    async def leave(self, principal: str, place: str) -> None:
        """See `Store`."""
        await self._run(partial(self._leave, place))

    async def aclose(self) -> None:
        """See `Store`."""
        await self._run(self._close)
        self._thread.shutdown(wait=False)

    async def _run(self, work: Callable[[], _T]) -> _T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except (sqlite3.Error, OSError) as exc:
            raise StoreFailed("the SQLite store of the budgets failed") from exc

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        connection = self._connection or self._connect()
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")

    def _connect(self) -> sqlite3.Connection:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(self._path, timeout=self._patience_s, isolation_level=None)
        wal.switch_on(connection, patience_s=self._patience_s)
        connection.executescript(_SCHEMA)
        self._connection = connection
        return connection

    def _close(self) -> None:
        if self._connection:
            self._connection.close()
            self._connection = None

    def _reserve(self, claim: Claim) -> Reservation:
        starts = {window: window.starts_at(claim.now) for window in Window}
        with self._transaction() as connection:
            self._expire(connection, claim.principal, claim.now)
            held = _read(connection, claim.principal, starts)
            for window, limit in claim.limits.items():
                balance = held[window]
                if balance.spent + balance.reserved + claim.amount > limit:
                    break
            else:
                reservation = Reservation(uuid4().hex, claim.principal, claim.amount)
                connection.execute(
                    "INSERT INTO reservations (id, principal, amount, expires_at, hour, day, month) "
                    "VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (reservation.id, claim.principal, claim.amount, claim.now + claim.lease_s, *starts.values()),
                )
                _book(connection, claim.principal, tuple(starts.values()), reserved=claim.amount)
                return reservation
        # Raised out here, so that what expired stays dealt with.
        raise Exhausted(window, limit=limit, balance=balance, resets_at=window.ends_at(claim.now))

    def _expire(self, connection: sqlite3.Connection, principal: str, now: float) -> None:
        expired = connection.execute(
            "SELECT id, amount, hour, day, month FROM reservations "
            "WHERE principal = ? AND state = 'held' AND expires_at <= ?",
            (principal, now),
        ).fetchall()
        for identity, amount, *starts in expired:
            spent, state = (amount, "charged") if self._charge_expired else (0, "released")
            connection.execute("UPDATE reservations SET state = ? WHERE id = ?", (state, identity))
            _book(connection, principal, tuple(starts), spent=spent, reserved=-amount)
        if expired:
            oldest = now - KEPT_S
            connection.execute("DELETE FROM reservations WHERE state != 'held' AND expires_at < ?", (oldest,))
            connection.execute("DELETE FROM money WHERE starts_at < ?", (oldest,))

    def _settle(self, identity: str, actual: int) -> None:
        with self._transaction() as connection:
            row = connection.execute(
                "DELETE FROM reservations WHERE id = ? RETURNING principal, amount, state, hour, day, month",
                (identity,),
            ).fetchone()
            if row is None:
                return
            principal, amount, state, *starts = row
            charged = amount if state == "charged" else 0
            held = amount if state == "held" else 0
            _book(connection, principal, tuple(starts), spent=actual - charged, reserved=-held)

    def _balance(self, principal: str, now: float) -> dict[Window, Balance]:
        connection = self._connection or self._connect()
        return _read(connection, principal, {window: window.starts_at(now) for window in Window})

    def _enter(self, principal: str, most: int, now: float, until: float) -> str:
        with self._transaction() as connection:
            connection.execute("DELETE FROM places WHERE principal = ? AND expires_at <= ?", (principal, now))
            taken = connection.execute("SELECT count(*) FROM places WHERE principal = ?", (principal,)).fetchone()[0]
            if taken >= most:
                raise TooMany
            place = uuid4().hex
            connection.execute("INSERT INTO places VALUES (?, ?, ?)", (place, principal, until))
            return place

    def _leave(self, place: str) -> None:
        with self._transaction() as connection:
            connection.execute("DELETE FROM places WHERE id = ?", (place,))


def _read(connection: sqlite3.Connection, principal: str, starts: dict[Window, int]) -> dict[Window, Balance]:
    rows = connection.execute(
        "SELECT window, spent, reserved FROM money WHERE principal = ? "
        "AND (window, starts_at) IN (VALUES ('hour', ?), ('day', ?), ('month', ?))",
        (principal, *(starts[window] for window in Window)),
    )
    return dict.fromkeys(Window, Balance()) | {Window(name): Balance(*amounts) for name, *amounts in rows}


def _book(
    connection: sqlite3.Connection, principal: str, starts: tuple[int, ...], *, spent: int = 0, reserved: int = 0
) -> None:
    rows = [(principal, window.value, start, spent, reserved) for window, start in zip(Window, starts, strict=True)]
    connection.executemany(_BOOK, rows)
