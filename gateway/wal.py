"""Opens SQLite files that several processes write to at once."""

from __future__ import annotations

import sqlite3
import time

# Seconds between two tries.
_PAUSE_S = 0.01


def switch_on(connection: sqlite3.Connection, *, patience_s: float) -> None:
    """Puts the file of *connection* into WAL mode, with commits that a killed process does not lose.

    Blocks, for *patience_s* seconds at most: SQLite waits for other processes at every statement but the one that
    changes the mode, which fails at once while another process opens the file for the first time too
    (https://www.sqlite.org/wal.html#sometimes_queries_return_sqlite_busy_in_wal_mode). Raises sqlite3.Error.
    """
    give_up_at = time.monotonic() + patience_s
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL").close()
            break
        except sqlite3.OperationalError as exc:
            if exc.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() >= give_up_at:
                raise
            time.sleep(_PAUSE_S)
    # In WAL mode a power cut may lose the last moments (https://www.sqlite.org/pragma.html#pragma_synchronous).
    connection.execute("PRAGMA synchronous = NORMAL").close()
