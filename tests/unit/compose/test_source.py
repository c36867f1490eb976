from __future__ import annotations

import asyncio
import os

import pytest

from gateway.compose.source import Settled, Source, stamps


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "gateway.toml"
    path.write_text("before")
    return path


@pytest.fixture
def files(path):
    return Settled(stamps([path]))


def test_a_file_that_stays_as_it_is_has_not_changed(files, path):
    assert [files.changed(stamps([path])) for _ in range(3)] == [False, False, False]


def test_a_change_is_told_once_and_when_two_looks_agree_on_it(files, path):
    path.write_text("half of")
    first = files.changed(stamps([path]))
    path.write_text("half of it, and the rest")

    assert [first, *(files.changed(stamps([path])) for _ in range(3))] == [False, False, True, False]


def test_a_file_that_is_replaced_by_one_of_the_same_size_and_time_has_changed(files, path):
    times = path.stat()
    other = path.with_suffix(".new")
    other.write_text("beyond")
    os.utime(other, ns=(times.st_atime_ns, times.st_mtime_ns))
    other.replace(path)

    assert [files.changed(stamps([path])) for _ in range(2)] == [False, True]


def test_a_link_on_the_way_that_leads_elsewhere_is_a_change(tmp_path):
    # As Kubernetes swaps the files of a ConfigMap all at once.
    for version in ("1", "2"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "gateway.toml").write_text(version)
    (tmp_path / "data").symlink_to("1")
    path = tmp_path / "gateway.toml"
    path.symlink_to("data/gateway.toml")
    files = Settled(stamps([path]))

    (tmp_path / "next").symlink_to("2")
    (tmp_path / "next").replace(tmp_path / "data")

    assert [files.changed(stamps([path])) for _ in range(2)] == [False, True]


def test_a_file_that_is_gone_has_changed(files, path):
    path.unlink()

    assert [files.changed(stamps([path])) for _ in range(2)] == [False, True]


def test_a_file_that_is_looked_at_for_the_first_time_has_not_changed(files, path, tmp_path):
    key = tmp_path / "key"
    key.write_text("1")
    looks = [files.changed(stamps([path, key])) for _ in range(2)]
    key.write_text("22")

    assert [*looks, *(files.changed(stamps([path, key])) for _ in range(2))] == [False, False, False, True]


def test_what_was_read_because_it_was_asked_for_is_known(files, path):
    path.write_text("after, and read")
    files.changed(stamps([path]))
    files.known()

    assert files.changed(stamps([path])) is False


async def test_a_source_without_a_file_is_read_when_that_is_asked_for():
    source = Source(lambda: None)
    triggers = source.triggers(list, watch=True)
    source.asked.set()

    assert (await anext(triggers), source.asked.is_set()) == ("signal", False)
    await triggers.aclose()


async def test_a_change_before_the_first_look_is_not_missed(path):
    source = Source(lambda: None, path, interval_s=0.0)
    path.write_text("another")
    triggers = source.triggers(list, watch=True)

    assert await asyncio.wait_for(anext(triggers), 60) == "file"
    await triggers.aclose()


async def test_files_are_left_alone_where_only_signals_count(path):
    source = Source(lambda: None, path, interval_s=0.0)
    looks = []
    waiting = asyncio.ensure_future(anext(source.triggers(lambda: looks.append(None) or [], watch=False)))
    path.write_text("another")
    for _ in range(10):
        await asyncio.sleep(0)
    source.asked.set()

    assert (await waiting, looks) == ("signal", [])
