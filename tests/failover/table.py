"""The tables of `docs/resilience.md`: what the command writes there, and what a test holds it to."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from tests.failover import at_provider, in_stream, on_triton, streamed
from tests.failover.scenario import Row, Scenario

PAGE = Path(__file__).parents[2] / "docs/resilience.md"
SECTIONS: dict[str, Sequence[Scenario]] = {
    "at-provider": at_provider.SCENARIOS,
    "streamed": streamed.SCENARIOS,
    "in-stream": in_stream.SCENARIOS,
    "on-triton": on_triton.SCENARIOS,
}
_HEAD = ("Scenario", "Fault", "Model", "Outcome", "Attempts", "Measured")


def cells(row: Row) -> tuple[str, ...]:
    """The cells of one row; the last is of one run, the others are the same in each."""
    name, models = row.scenario.key
    return name, row.scenario.fault, models, row.outcome, row.asked, row.measured


def write(rows: Sequence[Row]) -> str:
    """A table in Markdown, and when and where it was measured."""
    lines = [_HEAD, tuple("---" for _ in _HEAD), *map(cells, rows)]
    where = f"{platform.system()} on {platform.machine()} with {os.cpu_count()} cores"
    measured = f"Measured on {datetime.now(UTC).date()}, {where}, which other work shared."
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + f"\n\n{measured}"


def replace(page: str, section: str, table: str) -> str:
    """Puts *table* in the place of a section's on the page."""
    start, end = f"<!-- {section} -->\n", f"\n<!-- /{section} -->"
    before, _, rest = page.partition(start)
    return before + start + table + end + rest.partition(end)[2]


def read(page: str, section: str) -> dict[tuple[str, str], tuple[str, ...]]:
    """What the page says of each scenario of a section, but for what was measured."""
    table = page.partition(f"<!-- {section} -->\n")[2].partition(f"\n<!-- /{section} -->")[0]
    rows = [line.strip("| ").split(" | ") for line in table.splitlines()[2:] if line.startswith("|")]
    return {(row[0], row[2]): tuple(row[:5]) for row in rows}
