"""Where the tables of the load runs go: sections of `docs/resilience.md`."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

_PAGE = Path(__file__).parents[2] / "docs/resilience.md"


def line(cells: Sequence[str]) -> str:
    """One line of a table."""
    return "| " + " | ".join(cells) + " |"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown, and when and where it was measured."""
    where = f"{platform.system()} on {platform.machine()} with {os.cpu_count()} cores, which other work shared"
    lines = [line(head), line(["---"] * len(head)), *map(line, rows)]
    return "\n".join(lines) + f"\n\nMeasured on {datetime.now(UTC).date()}, {where}."


def write(section: str, told: str) -> None:
    """Puts *told* in the place of what stands in *section* of the page."""
    start, end = f"<!-- {section} -->\n", f"\n<!-- /{section} -->"
    page = _PAGE.read_text()
    before, found, rest = page.partition(start)
    if not found or end not in rest:
        raise LookupError(f"{_PAGE} has no section {section}")
    _PAGE.write_text(before + start + told + end + rest.partition(end)[2])
