"""Fixtures that several folders of tests share; each topic has a file."""

from __future__ import annotations

import gc
import os

import pytest

pytest_plugins = [
    "tests.fixtures.scripted_gateway",
    "tests.fixtures.kserve",
    "tests.fixtures.served_gateway",
    "tests.fixtures.aimock",
    "tests.fixtures.budgets",
    "tests.fixtures.cached_model",
    "tests.fixtures.envoy",
    "tests.fixtures.loop",
    "tests.fixtures.redis",
    "tests.fixtures.postgresql",
    "tests.fixtures.prometheus",
    "tests.fixtures.running_gateway",
    "tests.fixtures.settings_file",
    "tests.fixtures.otlp",
    "tests.fixtures.tap",
    "tests.fixtures.tls_gateway",
    "tests.fixtures.queues",
    "tests.fixtures.escalating",
    "tests.fixtures.hedging",
    "tests.fixtures.triton",
    "tests.fixtures.stock_llmapi",
    "tests.fixtures.gemma4",
    "tests.fixtures.virtual_time",
    "tests.fixtures.workers",
]

# No test writes to the ledger of whoever runs it.
os.environ.setdefault("VISION_GATEWAY_LEDGER__URL", "off")

# Set where every optional program is installed: a skipped test then fails, so that nothing goes unnoticed.
_NO_SKIP = bool(os.environ.get("VISION_GATEWAY_TEST_NO_SKIP"))


def _forbid(report):
    if _NO_SKIP and report.skipped and not hasattr(report, "wasxfail"):
        report.longrepr = f"skipping is forbidden here: {report.longrepr}"
        report.outcome = "failed"
    return report


def pytest_collection_finish():
    """Leaves what was imported, which is there to stay, out of all further looks for garbage."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport():
    return _forbid((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report():
    return _forbid((yield))
