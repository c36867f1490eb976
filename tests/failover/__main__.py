"""Runs the scenarios and prints their tables; with `--write` they go into docs/resilience.md.

`python -m tests.failover [--write] [SECTION...]`
"""

from __future__ import annotations

import argparse
import asyncio
import logging

import structlog

from tests.failover import table
from tests.failover.scenario import run
from tests.failover.stage import upstreams


def main() -> None:
    """Runs the sections that are named, or all."""
    arguments = argparse.ArgumentParser(prog="python -m tests.failover", description=__doc__)
    arguments.add_argument("--write", action="store_true", help="into docs/resilience.md")
    arguments.add_argument("sections", nargs="*", metavar="SECTION", help=", ".join(table.SECTIONS))
    given = arguments.parse_args()
    if unknown := set(given.sections) - set(table.SECTIONS):
        arguments.error(f"there is no {', '.join(sorted(unknown))}")
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    with upstreams() as servers:
        for section in given.sections or table.SECTIONS:
            rows = [asyncio.run(run(scenario, servers)) for scenario in table.SECTIONS[section]]
            told = table.write(rows)
            print(f"{section}\n\n{told}\n", flush=True)  # noqa: T201  it is what the command is for
            if given.write:
                table.PAGE.write_text(table.replace(table.PAGE.read_text(), section, told))


if __name__ == "__main__":
    main()
