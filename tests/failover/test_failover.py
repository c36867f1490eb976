"""Every scenario ends as `docs/resilience.md` says, and callers, ledger and servers agree on what happened."""

from __future__ import annotations

import pytest

from gateway.tritonserver import TritonUnavailable
from tests.failover import table
from tests.failover.scenario import run
from tests.failover.stage import upstreams
from tests.fixtures.aimock import AimockUnavailable

_PAGE = table.PAGE.read_text()
_ALL = [
    pytest.param(section, scenario, id=" ".join((section, *scenario.key)))
    for section, scenarios in table.SECTIONS.items()
    for scenario in scenarios
]


@pytest.fixture(scope="module")
def servers():
    """The servers that others wrote; all scenarios share them."""
    try:
        with upstreams() as running:
            yield running
    except (AimockUnavailable, TritonUnavailable) as error:
        pytest.skip(str(error))


@pytest.mark.parametrize(("section", "scenario"), _ALL)
async def test_a_scenario_ends_as_the_page_says(servers, section, scenario):
    row = await run(scenario, servers)

    assert table.cells(row)[:5] == table.read(_PAGE, section)[scenario.key]


@pytest.mark.parametrize("section", table.SECTIONS)
def test_the_page_has_the_scenarios_that_there_are_and_no_other(section):
    assert list(table.read(_PAGE, section)) == [scenario.key for scenario in table.SECTIONS[section]]
