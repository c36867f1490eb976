"""Compares what everybody has to say about a run: callers, log, ledger, metrics, budgets, wires, and aimock itself."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prometheus_client.parser import text_string_to_metric_families

from tests.load.calling import GONE

if TYPE_CHECKING:
    from tests.load.calling import Told
    from tests.load.chaos import Run

_NANO = 10**9
# What callers may be told: the codes of docs/errors.md with their reasons. Nothing of this run is a bug of ours.
CODES = {
    "OK": {""},
    "INVALID_ARGUMENT": {"INVALID_IMAGE", "INVALID_FIELD", "MALFORMED_REQUEST"},
    "NOT_FOUND": {"UNKNOWN_MODEL"},
    "FAILED_PRECONDITION": {"UNSUPPORTED_BY_MODEL", "COST_ABOVE_LIMIT", "REFUSED"},
    "UNAUTHENTICATED": {"UNAUTHENTICATED"},
    "RESOURCE_EXHAUSTED": {"BUDGET_EXCEEDED", "RATE_LIMITED"},
    "INTERNAL": {"UNUSABLE_ANSWER"},
    "DATA_LOSS": {"TRUNCATED_ANSWER"},
    "UNAVAILABLE": {"BACKEND_UNAVAILABLE", "UPSTREAM_RATE_LIMITED", "OVERLOADED"},
    "DEADLINE_EXCEEDED": {"DEADLINE", "DEADLINE_TOO_SHORT"},
    "UNIMPLEMENTED": {"UNKNOWN_METHOD"},
}
# Attempts that may have ended before there was a request on the wire.
_PERHAPS_ASKED = {"CANCELLED", "DEADLINE", "OVERLOADED", "INVALID_IMAGE"}
# Of a race the loser may be at work for others when its own caller has an answer; so it is with so many calls at most.
_RACED = {"first", "free"}
_LEFT_BEHIND = 0.005

_MET = {
    "vision_gateway_retries_total": "retry",
    "vision_gateway_fallbacks_total": "fallback",
    "vision_gateway_escalations_total": "escalation",
    "vision_gateway_hedges_total": "race",
    "vision_gateway_shadows_total": "shadow",
    "vision_gateway_agreement_ratio_count": "agreement",
}


@dataclass(frozen=True)
class Books:
    """The records of a run."""

    # The ledger's attempts by request id, those of shadows apart, and the lines of the log.
    rows: list[dict[str, Any]]
    of_calls: dict[str, list[dict[str, Any]]]
    lines: dict[str, list[dict[str, Any]]]
    budgets: dict[str, list[dict[str, Any]]]


def read(run: Run) -> Books:
    """Reads the records of *run*, which is over."""
    rows = _table(run.folder / "ledger.db", "vision_gateway_attempts")
    lines = [json.loads(line) for line in run.log]
    budgets = {name: _table(run.folder / "budgets.db", name) for name in ("money", "reservations", "places")}
    return Books(
        rows,
        _by_call(row for row in rows if row["principal"] != "shadow"),
        _by_call(line for line in lines if line["event"] == "call"),
        budgets,
    )


def check(run: Run, books: Books) -> None:
    """Raises AssertionError with every disagreement."""
    wrong = [
        *(f"{told.call.request_id} {told.call.rpc}: {what}" for told in run.told for what in _of_call(told, books)),
        *_left_behind(run, books),
        *_of_metrics(run, books),
        *_of_wires(run, books),
        *_of_money(books),
        *(f"{count} tasks are left: {what}" for what, count in run.left_over.items()),
        *(f"a bug: {line}" for line in run.log if '"bug"' in line or '"loop_error"' in line),
    ]
    assert wrong == [], "\n".join(wrong[:50])


def at_work(exposition: str) -> list[str]:
    """Names what is in flight or waits, by the metrics."""
    return [
        f"{name} {labels}: {value}"
        for name, labels, value in _samples(exposition)
        if name in {"vision_gateway_inflight", "vision_gateway_model_queue"} and value
    ]


def met(run: Run) -> set[str]:
    """Names what the calls of *run* met with, so that books which agree on an easier run are not taken for these."""
    met = set()
    for name, labels, value in _samples(run.exposition):
        if value and name in _MET:
            met.add(_MET[name])
        elif value and name == "vision_gateway_cache_total":
            met.add(f"cache {labels['outcome']}")
    met |= {f"wire {fate}" for wire in run.wires.values() for fate in wire.fates}
    return met | {
        f"aimock {entry['response']['chaosAction']}" for entry in run.journal if "chaosAction" in entry["response"]
    }


def _of_call(told: Told, books: Books) -> Iterator[str]:
    """What one caller was told, against log and ledger."""
    yield from told.wrong
    lines, rows = books.lines[told.call.request_id], books.of_calls[told.call.request_id]
    if told.code == GONE and told.call.cancel_after_s is None:
        yield "was cancelled, but not by its caller"
    if told.gave_up:
        # It may never have arrived.
        if len(lines) > 1:
            yield "ended more than once"
    elif told.reason not in CODES.get(told.code, ()):
        yield f"was told {told.code} {told.reason}"
    elif [(line["code"], line["reason"]) for line in lines] != [(told.code, told.reason)]:
        yield f"was told {told.code} {told.reason}, but the log has {lines}"
    for line in lines:
        yield from _of_line(told, line, rows)
    if not lines and rows:
        yield f"never ended, but the ledger has {_written(rows)}"


def _of_line(told: Told, line: dict[str, Any], rows: list[dict[str, Any]]) -> Iterator[str]:
    """What the log has of one call, against its caller and the ledger."""
    logged = _logged(line)
    # Others who wait for the same answer keep a model at work for one who is gone, and on the bill of that one.
    if more := _written(rows) - logged:
        if not told.gave_up and not {model for model, _ in more} <= _RACED:
            yield f"the ledger has {more} that the log has not"
    elif (cost := sum(row["cost_nano_usd"] for row in rows)) != line["cost_nano_usd"]:
        yield f"the ledger has a cost of {cost}, the log {line['cost_nano_usd']}"
    if more := logged - _written(rows):
        yield f"the log has {more} that the ledger has not"
    if told.cost_nano_usd not in {None, line["cost_nano_usd"]}:
        yield f"was told that it cost {told.cost_nano_usd}, but the log has {line['cost_nano_usd']}"
    if told.attempts not in (None, logged):
        yield f"was told of {told.attempts}, but the log has {logged}"


def _left_behind(run: Run, books: Books) -> Iterator[str]:
    """Attempts that went on for others are rare; were they not, the comparison would be worth little."""
    calls = (told.call.request_id for told in run.told if not told.gave_up)
    unequal = [each for each in calls for line in books.lines[each] if _written(books.of_calls[each]) != _logged(line)]
    if len(unequal) > len(run.calls) * _LEFT_BEHIND:
        yield f"{len(unequal)} callers were not told of all that the ledger has: {unequal[:10]}"


def _logged(line: dict[str, Any]) -> Counter[tuple[str, str]]:
    return Counter(
        (attempt["model"], "" if attempt["outcome"] == "ok" else attempt["reason"])
        for attempt in line["attempts"]
        if attempt["outcome"] != "skipped"
    )


def _written(rows: list[dict[str, Any]]) -> Counter[tuple[str, str]]:
    return Counter((row["model"], row["reason"]) for row in rows)


def _of_metrics(run: Run, books: Books) -> Iterator[str]:
    """The counters against log and ledger; whatever is in flight must be over."""
    asked: Counter[tuple[str, ...]] = Counter()
    ended: Counter[tuple[str, ...]] = Counter()
    cost_usd = 0.0
    for name, labels, value in _samples(run.exposition):
        if name == "vision_gateway_attempts_total" and labels["outcome"] != "skipped":
            asked[labels["rpc"], labels["model"], labels["reason"]] += int(value)
        elif name == "vision_gateway_requests_total":
            ended[labels["rpc"], labels["code"]] += int(value)
        elif name == "vision_gateway_cost_usd_total":
            cost_usd += value
    written = Counter((row["rpc"], row["model"], row["reason"]) for row in books.rows)
    if +asked != written:
        yield f"attempts: the metrics have {asked - written} more, the ledger {written - asked}"
    logged = Counter((line["rpc"], line["code"]) for lines in books.lines.values() for line in lines)
    if +ended != logged:
        yield f"calls: the metrics have {ended - logged} more, the log {logged - ended}"
    if (counted := round(cost_usd * _NANO)) != (cost := sum(row["cost_nano_usd"] for row in books.rows)):
        yield f"the metrics have a cost of {counted}, the ledger {cost}"
    yield from at_work(run.exposition)


def _of_wires(run: Run, books: Books) -> Iterator[str]:
    """The requests that were seen on the way to the provider, and its own journal, against the ledger."""
    journal = Counter(
        (entry["headers"]["x-client-request-id"], entry["body"]["model"] if entry["body"] else "")
        for entry in run.journal
        if entry["method"] == "POST"
    )
    for name, wire in run.wires.items():
        rows = _by_call(row for row in books.rows if row["model"] == name)
        for request_id in {*wire.came, *rows}:
            reasons = [row["reason"] for row in rows[request_id]]
            most = len(reasons)
            least = sum(reason not in _PERHAPS_ASKED for reason in reasons)
            if not least <= wire.came[request_id] <= most:
                yield f"{request_id}: {name} was asked {wire.came[request_id]} times, the ledger has {reasons}"
            given = wire.given[request_id]
            noted = journal[request_id, run.provider_names[name]]
            # One whose caller hung up may not have been read to its end.
            if not given - (most - least) <= noted <= given:
                yield f"{request_id}: aimock was given {given} requests for {name}, and has {noted} in its journal"


def _of_money(books: Books) -> Iterator[str]:
    """The budgets against the ledger; nothing may be reserved, and nobody may hold a place."""
    for name in ("reservations", "places"):
        if left := books.budgets[name]:
            yield f"{len(left)} {name} are left: {left[:3]}"
    for row in books.budgets["money"]:
        if row["reserved"]:
            yield f"{row['principal']} has {row['reserved']} reserved in its {row['window']}"
    spent: Counter[tuple[str, str]] = Counter()
    for row in books.budgets["money"]:
        spent[row["principal"], row["window"]] += row["spent"]
    written: Counter[str] = Counter()
    for row in books.rows:
        written[row["principal"]] += row["cost_nano_usd"]
    for (principal, window), amount in spent.items():
        if amount != written[principal]:
            yield f"{principal} spent {amount} by its {window}, and {written[principal]} by the ledger"


def _table(path: Path, name: str) -> list[dict[str, Any]]:
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute(f"SELECT * FROM {name}")]  # noqa: S608  a name of ours


def _by_call(records: Iterator[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for record in records:
        found[record["request_id"]].append(record)
    return found


def _samples(exposition: str) -> Iterator[tuple[str, dict[str, str], float]]:
    for family in text_string_to_metric_families(exposition):
        for sample in family.samples:
            yield sample.name, sample.labels, sample.value
