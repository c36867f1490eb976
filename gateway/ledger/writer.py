"""Writes rows in a thread of its own, as many to a commit as have come while the last one ran."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, TypeAlias

import structlog
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DataError, IntegrityError, InterfaceError, OperationalError

from gateway.ledger.table import ATTEMPTS, Row, connect, name_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

    from sqlalchemy import Engine, Insert

_log = structlog.get_logger()

# Rows to a commit.
_MOST_ROWS = 1_000
# Seconds between two tries while the database is down, doubled from the first to the last.
_FIRST_PAUSE_S, _LAST_PAUSE_S = 0.1, 5.0

_Entry: TypeAlias = tuple[Row, "asyncio.Future[bool]"]


def _ignore(_: int) -> None:
    pass


class Ledger:
    """Keeps every row until it is committed, and never stands in a call's way for long.

    What the database does not take waits, *capacity* rows at most, and is tried again.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        lost: Callable[[int], None] = _ignore,
        backlog: Callable[[int], None] = _ignore,
        capacity: int = 10_000,
        patience_s: float = 1.0,
        flush_s: float = 10.0,
    ) -> None:
        """*lost* is told how many rows were dropped, *backlog* how many wait, both on the event loop.

        *patience_s* is how long a call waits for its row, *flush_s* how long the end waits for all rows.
        """
        self._engine = engine
        self._lost = lost
        self._backlog = backlog
        self._capacity = capacity
        self._patience_s = patience_s
        self._flush_s = flush_s
        dialect = postgresql if engine.dialect.name == "postgresql" else sqlite
        # A row may have been stored although the database was lost before it could say so.
        self._insert: Insert = dialect.insert(ATTEMPTS).on_conflict_do_nothing()
        self._loop = asyncio.get_running_loop()
        self._entries: queue.SimpleQueue[_Entry | None] = queue.SimpleQueue()
        self._size = 0
        self._down = False
        self._give_up_at: float | None = None
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ledger", daemon=True)

    @classmethod
    @asynccontextmanager
    async def open(
        cls, url: str, *, lost: Callable[[int], None] = _ignore, backlog: Callable[[int], None] = _ignore
    ) -> AsyncGenerator[Ledger]:
        """Opens the ledger at *url*, `sqlite:///PATH` or `postgresql://...`; made where it is missing.

        Raises `LedgerUnavailable`. At the end every row is written, unless the database is down for too long.
        """
        ledger = cls(await asyncio.to_thread(connect, url, create=True), lost=lost, backlog=backlog)
        async with ledger.writing():
            yield ledger

    @asynccontextmanager
    async def writing(self) -> AsyncGenerator[None]:
        """Runs the thread that writes; at the end, every row is written."""
        self._thread.start()
        try:
            yield
        finally:
            self._give_up_at = time.monotonic() + self._flush_s
            self._closing.set()
            self._entries.put(None)
            await asyncio.to_thread(self._thread.join)

    def write(self, row: Row) -> asyncio.Future[bool]:
        """Takes *row* at once; the future tells whether it is committed.

        It is False, soon, where the database is down or slow: the row is then tried again, and nobody need care.
        """
        committed: asyncio.Future[bool] = self._loop.create_future()
        if self._size >= self._capacity:
            self._lost(1)
            committed.set_result(False)
            return committed
        self._changed(by=1)
        self._entries.put((row, committed))
        if self._down:
            committed.set_result(False)
        else:
            timer = self._loop.call_later(self._patience_s, _settle, committed, False)  # noqa: FBT003  its result
            committed.add_done_callback(lambda _: timer.cancel())
        return committed

    def _changed(self, *, by: int) -> None:
        self._size += by
        self._backlog(self._size)

    def _committed(self, batch: Sequence[_Entry], refused: int) -> None:
        self._down = False
        self._changed(by=-len(batch))
        if refused:
            self._lost(refused)
        for _, committed in batch:
            _settle(committed, True)  # noqa: FBT003  its result

    def _stalled(self, batch: Sequence[_Entry]) -> None:
        self._down = True
        for _, committed in batch:
            _settle(committed, False)  # noqa: FBT003  its result

    def _dropped(self, batch: Sequence[_Entry]) -> None:
        self._stalled(batch)
        self._changed(by=-len(batch))
        self._lost(len(batch))

    # What follows runs in the thread.

    def _run(self) -> None:
        last = False
        while not last:
            batch: list[_Entry] = []
            entry = self._entries.get()
            with suppress(queue.Empty):
                while entry is not None:
                    batch.append(entry)
                    if len(batch) == _MOST_ROWS:
                        break
                    entry = self._entries.get_nowait()
            last = entry is None
            if batch:
                self._store(batch)
        self._engine.dispose()

    def _store(self, batch: list[_Entry]) -> None:
        """Tries until the rows are committed, or the ledger has been closing for too long."""
        rows = [row for row, _ in batch]
        pause_s = _FIRST_PAUSE_S
        is_known = False
        while True:
            try:
                refused = self._commit(rows)
            except Exception as exc:  # noqa: BLE001  whatever it is, the rows must not be lost with the thread
                if not is_known:
                    _log.error("ledger_down", error=name_of(exc), rows=len(rows))
                    is_known = True
                self._loop.call_soon_threadsafe(self._stalled, batch)
                if self._give_up_at is not None and time.monotonic() >= self._give_up_at:
                    _log.error("ledger_rows_lost", rows=len(rows))
                    self._loop.call_soon_threadsafe(self._dropped, batch)
                    return
                if self._closing.is_set():
                    time.sleep(_FIRST_PAUSE_S)
                else:
                    self._closing.wait(pause_s)
                    pause_s = min(pause_s * 2, _LAST_PAUSE_S)
            else:
                if is_known:
                    _log.info("ledger_back", rows=len(rows))
                self._loop.call_soon_threadsafe(self._committed, batch, refused)
                return

    def _commit(self, rows: Sequence[Row]) -> int:
        """Commits *rows* and tells how many of them the database will never take."""
        try:
            self._insert_all(rows)
        except (OperationalError, InterfaceError):
            # A connection may just have been lost since the last commit; another may do.
            self._insert_all(rows)
        except (DataError, IntegrityError, ValueError, OverflowError) as exc:
            # One row that cannot be stored must not keep the others from it.
            if len(rows) > 1:
                return sum(self._commit([row]) for row in rows)
            _log.error("ledger_row_refused", error=type(exc).__name__, request_id=rows[0].request_id)
            return 1
        return 0

    def _insert_all(self, rows: Sequence[Row]) -> None:
        with self._engine.begin() as connection:
            connection.execute(self._insert, [row.values() for row in rows])


def _settle(committed: asyncio.Future[bool], result: bool) -> None:  # noqa: FBT001  as `Future.set_result` has it
    if not committed.done():
        committed.set_result(result)
