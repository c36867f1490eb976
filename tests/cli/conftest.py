"""Runs commands against a gateway that answers from a script."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from gateway.cli import app

DATA = b"\xff\xd8image"
DATA_JSON = {"data": "/9hpbWFnZQ=="}
NOBODY = "127.0.0.1:1"  # A port that nothing listens on.


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.jpg"
    path.write_bytes(DATA)
    return path


@pytest.fixture
def run(scripted_gateway, monkeypatch):
    monkeypatch.setenv("VISION_GATEWAY_ADDRESS", scripted_gateway.address)
    # Messages about wrong commands are put in boxes as wide as the terminal.
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments):
        return CliRunner().invoke(app, [str(each) for each in arguments])

    return run
