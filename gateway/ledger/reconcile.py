"""Compares the ledger with what a provider says it served and billed.

Reads what OpenAI's organization usage API and costs API give
(https://platform.openai.com/docs/api-reference/usage), as JSON or as CSV with the same names.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

from gateway.ledger import report

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

# The figures in which both may differ, by their names in the export and in the ledger's report.
_COUNTS = {
    "num_model_requests": "served",
    "input_tokens": "input_tokens",
    "input_cached_tokens": "cached_input_tokens",
    "output_tokens": "output_tokens",
}
_COST = "cost_nano_usd"
# A snapshot's date: some answers name the snapshot, some attempts only what the settings name.
_SNAPSHOT = re.compile(r"-\d{4}-\d{2}-\d{2}$")
# What costs that are not told by model are compared with.
ALL_MODELS = "all models"

_Key = tuple[str, str]


class UnreadableExport(ValueError):
    """The file is no usage export, or not all of one; the message says what is wrong."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A figure in which the ledger and the provider differ, for one UTC day and provider model.

    *figure* is `requests`, `input_tokens`, `input_cached_tokens`, `output_tokens`, or `cost_nano_usd`.
    """

    day: str
    model: str
    figure: str
    ledger: int
    provider: int


@dataclass(slots=True)
class Export:
    """What the provider says, by UTC day and model without its snapshot; *days* are the first and the last."""

    days: tuple[str, str]
    counts: defaultdict[_Key, dict[str, int]] = field(default_factory=lambda: defaultdict(dict))
    costs: defaultdict[_Key, Decimal] = field(default_factory=lambda: defaultdict(Decimal))
    has_counts: bool = False

    @property
    def has_total_costs(self) -> bool:
        """Whether costs are told for all models together."""
        return any(model == ALL_MODELS for _, model in self.costs)


def read(content: str) -> Export:
    """Reads an export; raises `UnreadableExport`."""
    try:
        buckets = list(_json(content) if content.lstrip()[:1] in ("{", "[") else _csv(content))
        if not buckets:
            raise UnreadableExport("the file has no buckets")
        # A bucket ends where the next begins.
        days = sorted(
            report.day_of(at) for start, end, _ in buckets for at in (start, max(start, end - 1) if end else start)
        )
        export = Export((days[0], days[-1]))
        for start, _, result in buckets:
            if result is not None:
                _add(export, report.day_of(start), result)
    except (KeyError, TypeError, AttributeError, ValueError, InvalidOperation, OverflowError) as exc:
        if isinstance(exc, UnreadableExport):
            raise
        raise UnreadableExport("the file is no usage export of OpenAI's, neither JSON nor CSV") from None
    return export


def compare(
    export: Export, url: str, *, models: Iterable[str] = (), tolerance: Decimal = Decimal(0)
) -> list[Difference]:
    """Names every figure that differs by more than *tolerance*, a share of the provider's figure.

    *models* are the provider's names of those to compare; without any it is all of the export's, and all that the
    ledger has of backends of kind `openai`. Blocks. Raises `LedgerUnavailable`.
    """
    wanted = {_family(each) for each in models}
    ours = _ours(export, url, wanted)
    differences = []
    for key, figure, provider in _figures(export, ours.keys(), wanted):
        ledger = ours[key][_COUNTS.get(figure, _COST)] if key in ours else 0
        if abs(ledger - provider) > tolerance * abs(provider):
            name = "requests" if figure == "num_model_requests" else figure
            differences.append(Difference(*key, name, ledger, provider))
    return differences


def _figures(export: Export, ours: Iterable[_Key], wanted: set[str]) -> Iterator[tuple[_Key, str, int]]:
    told = {key for key in (*export.counts, *export.costs) if not wanted or key[1] in wanted}
    for key in sorted(told.union(ours)):
        is_total = key[1] == ALL_MODELS
        if export.has_counts and not is_total:
            for figure in _COUNTS:
                yield key, figure, export.counts[key].get(figure, 0)
        if export.costs and is_total == export.has_total_costs:
            yield key, _COST, round(export.costs[key].scaleb(9))


def _ours(export: Export, url: str, wanted: set[str]) -> dict[_Key, dict[str, int]]:
    since, until = (date.fromisoformat(day) for day in export.days)
    told = {model for _, model in (*export.counts, *export.costs)}
    found: defaultdict[_Key, dict[str, int]] = defaultdict(lambda: dict.fromkeys((*_COUNTS.values(), _COST), 0))
    for line in report.usage(url, by=("day", "provider", "provider_model"), since=since, until=until):
        model = _family(line["provider_model"])
        is_theirs = model in wanted if wanted else line["provider"] == "openai" or model in told
        # Attempts that the provider never served are not on its record either.
        if not is_theirs or not line["served"]:
            continue
        for each in (model, ALL_MODELS) if export.has_total_costs else (model,):
            for name, count in found[line["day"], each].items():
                found[line["day"], each][name] = count + line[name]
    return dict(found)


def _add(export: Export, day: str, result: Mapping[str, Any]) -> None:
    amount = result["amount"]["value"] if result.get("amount") else result.get("amount.value")
    if amount not in (None, ""):
        # Line items are such as "gpt-5.5-2026-04-23, input"; costs that are not grouped have none.
        item = str(result.get("line_item") or "").split(",")[0].strip().lower()
        export.costs[day, _family(item) if item else ALL_MODELS] += Decimal(str(amount))
        return
    if not result.get("model"):
        raise UnreadableExport("the usage is not told by model: export it with group_by=model")
    export.has_counts = True
    counts = export.counts[day, _family(result["model"])]
    for name in _COUNTS:
        counts[name] = counts.get(name, 0) + int(result.get(name) or 0)


def _family(model: str) -> str:
    return _SNAPSHOT.sub("", model)


_Bucket = tuple[int, int, "Mapping[str, Any] | None"]


def _json(content: str) -> Iterator[_Bucket]:
    found = json.loads(content, parse_float=Decimal)
    for page in found if isinstance(found, list) else [found]:
        for bucket in page.get("data", [page]):
            start, end = int(bucket["start_time"]), int(bucket.get("end_time") or 0)
            yield start, end, None
            for result in bucket["results"]:
                yield start, end, result
    if isinstance(found, dict) and found.get("has_more"):
        raise UnreadableExport("the file is one page of several: put all of them into one JSON array")


def _csv(content: str) -> Iterator[_Bucket]:
    for line in csv.DictReader(io.StringIO(content)):
        yield _seconds(line["start_time"]), _seconds(line.get("end_time") or "0"), line


def _seconds(text: str) -> int:
    if text.isdecimal():
        return int(text)
    at = datetime.fromisoformat(text)
    return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp())
