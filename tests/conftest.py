"""Fixtures that several folders of tests share; each topic has a file."""

from __future__ import annotations

pytest_plugins = ["tests.fixtures.scripted_gateway"]
