from __future__ import annotations

import sqlite3

import pytest

from gateway import wal


@pytest.fixture
def other(tmp_path):
    """Another process's connection, which holds the new file to itself."""
    connection = sqlite3.connect(tmp_path / "file.db", isolation_level=None)
    connection.execute("BEGIN EXCLUSIVE")
    yield connection
    connection.close()


@pytest.fixture
def own(tmp_path):
    # It waits for nobody by itself, as SQLite does for this one statement.
    connection = sqlite3.connect(tmp_path / "file.db", timeout=0)
    yield connection
    connection.close()


def test_a_file_that_another_process_is_opening_is_waited_for(own, other, monkeypatch):
    pauses = []

    def pause(seconds):
        pauses.append(seconds)
        other.execute("COMMIT")

    monkeypatch.setattr(wal.time, "sleep", pause)

    wal.switch_on(own, patience_s=60)

    assert (len(pauses), own.execute("PRAGMA journal_mode").fetchone()) == (1, ("wal",))


@pytest.mark.usefixtures("other")
def test_a_file_that_stays_taken_is_given_up(own):
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        wal.switch_on(own, patience_s=0.0)


def test_a_file_that_is_no_database_is_not_tried_again(tmp_path, monkeypatch):
    path = tmp_path / "file.txt"
    path.write_bytes(b"no database" * 100)
    connection = sqlite3.connect(path)
    monkeypatch.setattr(wal.time, "sleep", lambda _: pytest.fail("it was tried again"))

    with pytest.raises(sqlite3.DatabaseError):
        wal.switch_on(connection, patience_s=60)
    connection.close()
