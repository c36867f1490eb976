"""Rows go into either database and stay there, whatever happens to it meanwhile."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys

import pytest

from gateway.ledger import Ledger, LedgerUnavailable
from gateway.ledger.table import ATTEMPTS, connect


def rows_at(url):
    engine = connect(url, create=False)
    with engine.connect() as connection:
        found = [dict(each) for each in connection.execute(ATTEMPTS.select().order_by("request_id")).mappings()]
    engine.dispose()
    return found


@pytest.mark.usefixtures("unblocked_loop")
async def test_a_row_that_is_committed_is_there_for_everybody(url, row):
    written = row()
    async with Ledger.open(url) as ledger:
        committed = await ledger.write(written)
        found = await asyncio.to_thread(rows_at, url)

    assert (committed, found) == (True, [written.values()])


async def test_what_nobody_waited_for_is_there_after_the_end(url, row):
    written = [row(request_id=f"{index:04}") for index in range(2_500)]
    async with Ledger.open(url) as ledger:
        for each in written:
            ledger.write(each)

    assert rows_at(url) == [each.values() for each in written]


async def test_a_row_written_twice_is_one_row(url, row):
    written = row()
    async with Ledger.open(url) as ledger:
        await ledger.write(written)
        await ledger.write(written)

    assert rows_at(url) == [written.values()]


async def test_a_row_that_the_database_never_takes_is_counted_lost_and_keeps_no_other_from_it(url, row):
    lost = []
    async with Ledger.open(url, lost=lost.append) as ledger:
        ledger.write(row(request_id="a"))
        ledger.write(row(request_id="b", cost_nano_usd=1 << 70))
        ledger.write(row(request_id="c"))

    assert ([each["request_id"] for each in rows_at(url)], lost) == (["a", "c"], [1])


async def test_the_backlog_is_told_and_ends_at_none(url, row):
    backlog = []
    async with Ledger.open(url, backlog=backlog.append) as ledger:
        await asyncio.gather(*(ledger.write(row()) for _ in range(5)))

    assert (backlog[:5], backlog[-1]) == ([1, 2, 3, 4, 5], 0)


PROGRAM = """
import asyncio, sys
from gateway.ledger import Ledger, Row
from gateway.usage import Usage

async def main(url, name):
    async with Ledger.open(url) as ledger:
        for index in range(300):
            row = Row(1, f"{name}{index}", "", "", "", "", "", "", "", Usage(), 1, "", "", "")
            assert await ledger.write(row)

asyncio.run(main(*sys.argv[1:]))
"""


def test_several_processes_write_to_one_ledger_that_none_of_them_found(url):
    command = [sys.executable, "-c", PROGRAM, url]
    running = [subprocess.Popen([*command, name], stderr=subprocess.PIPE, text=True) for name in "ab"]
    said = [each.communicate(timeout=60)[1] for each in running]

    assert (said, len(rows_at(url))) == (["", ""], 600)


async def test_while_another_process_holds_the_database_calls_go_on_and_their_rows_wait(tmp_path, row):
    url = f"sqlite:///{tmp_path}/ledger.db"
    engine = connect(url, create=True)
    ledger = Ledger(engine, patience_s=0.01)
    async with ledger.writing():
        holder = sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        during = await ledger.write(row(request_id="a"))
        holder.execute("COMMIT")
        holder.close()

    assert (during, [each["request_id"] for each in rows_at(url)]) == (False, ["a"])


async def test_more_than_may_wait_is_lost_and_counted(tmp_path, row):
    lost = []
    ledger = Ledger(connect(f"sqlite:///{tmp_path}/ledger.db", create=True), lost=lost.append, capacity=2)
    waiting = [ledger.write(row(request_id=name)) for name in "abc"]
    async with ledger.writing():
        committed = await asyncio.gather(*waiting)

    assert (committed, lost) == ([True, True, False], [1])


async def test_rows_wait_for_a_postgresql_that_goes_away_and_comes_back(postgresql, row):
    lost, backlog = [], []
    async with Ledger.open(postgresql.url, lost=lost.append, backlog=backlog.append) as ledger:
        before = await ledger.write(row(request_id="a"))
        await asyncio.to_thread(postgresql.stop)
        try:
            during = [await ledger.write(row(request_id=name)) for name in "bc"]
        finally:
            await asyncio.to_thread(postgresql.start)
    found = [each["request_id"] for each in rows_at(postgresql.url)]

    assert (before, during, found) == (True, [False, False], ["a", "b", "c"])
    assert (lost, backlog[-1]) == ([], 0)


async def test_at_the_end_rows_are_not_waited_for_forever(postgresql, row):
    lost = []
    ledger = Ledger(await asyncio.to_thread(connect, postgresql.url, create=True), lost=lost.append, flush_s=0.0)
    try:
        async with ledger.writing():
            await asyncio.to_thread(postgresql.stop)
            ledger.write(row())
    finally:
        await asyncio.to_thread(postgresql.start)

    assert lost == [1]


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        (
            "sqlite:////proc/none/ledger.db",
            "sqlite:////proc/none/ledger.db cannot be opened: No such file or directory",
        ),
        ("sqlite:////usr", "sqlite:////usr cannot be opened: SQLITE_CANTOPEN"),
        ("sqlite://", "a ledger in SQLite needs the path of a file: sqlite:///PATH"),
        (
            "postgresql://me:secret@/x?host=/nowhere",
            "postgresql://me:***@/x?host=%2Fnowhere cannot be opened: OperationalError",
        ),
    ],
)
async def test_a_database_that_cannot_be_opened_is_named_without_its_password(url, problem):
    with pytest.raises(LedgerUnavailable) as failed:
        async with Ledger.open(url):
            pass

    assert str(failed.value) == problem
