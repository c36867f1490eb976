"""Workers take what they can, and drop what nobody waits for."""

from __future__ import annotations

import threading

import pytest

from cpu_vision.workers import Workers


class Job:
    """A job that works until it is let go or told to stop."""

    def __init__(self):
        self.begun = threading.Event()
        self.let_go = threading.Event()
        self.ended = threading.Event()
        self.cancelled = False
        self.outcome = None
        self.tools = None

    def run(self, tools, stop):
        self.tools = tools
        self.begun.set()
        while not self.let_go.wait(0.001) and not stop:
            pass
        self._end("stopped" if stop else "done")

    def drop(self):
        self._end("dropped")

    def is_cancelled(self):
        return self.cancelled

    def _end(self, outcome):
        self.outcome = outcome
        self.ended.set()


class Raising(Job):
    def run(self, tools, stop):
        self._end("raised")
        raise LookupError


@pytest.fixture
def workers():
    opened = []

    def open_workers(tools=("a",), max_in_flight=2, **options):
        opened.append(Workers(tools, max_in_flight=max_in_flight, poll_s=0.001, **options))
        return opened[-1]

    yield open_workers
    for each in opened:
        each.close()


def test_each_worker_has_tools_of_its_own(workers):
    both = workers(tools=("a", "b"))
    jobs = [Job(), Job()]
    for job in jobs:
        both.submit(job)
    for job in jobs:
        assert job.begun.wait(10)

    assert {job.tools for job in jobs} == {"a", "b"}


def test_no_more_jobs_are_taken_than_allowed(workers):
    one = workers(max_in_flight=2)

    assert [one.submit(Job()) for _ in range(3)] == [True, True, False]


def test_a_job_that_ends_makes_room_for_another(workers):
    counts = []
    made_room = threading.Event()
    one = workers(max_in_flight=1, on_change=lambda count: (counts.append(count), count or made_room.set()))
    job = Job()
    one.submit(job)
    job.let_go.set()
    assert made_room.wait(10)

    assert one.submit(Job())
    assert counts == [1, 0, 1]


def test_a_job_at_work_is_told_to_stop_when_it_is_cancelled(workers):
    job = Job()
    workers().submit(job)
    assert job.begun.wait(10)

    job.cancelled = True

    assert job.ended.wait(10)
    assert job.outcome == "stopped"


def test_a_job_that_waits_is_dropped_when_it_is_cancelled_though_all_workers_are_busy(workers):
    one = workers()
    busy, waiting = Job(), Job()
    one.submit(busy)
    assert busy.begun.wait(10)
    one.submit(waiting)

    waiting.cancelled = True

    assert waiting.ended.wait(10)
    assert (waiting.outcome, waiting.begun.is_set(), busy.outcome) == ("dropped", False, None)


def test_a_worker_outlives_a_job_that_raises(workers):
    one = workers()
    raising, after = Raising(), Job()
    after.let_go.set()
    one.submit(raising)
    one.submit(after)

    assert after.ended.wait(10)
    assert (raising.outcome, after.outcome) == ("raised", "done")


def test_closing_stops_what_is_at_work_and_drops_what_waits(workers):
    one = workers()
    busy, waiting = Job(), Job()
    one.submit(busy)
    assert busy.begun.wait(10)
    one.submit(waiting)

    one.close()

    assert (busy.outcome, waiting.outcome) == ("stopped", "dropped")
    assert not one.submit(Job())
