from __future__ import annotations

import pytest

from gateway.ledger import Row
from gateway.usage import Usage


@pytest.fixture
def row():
    """Makes a row; everything not given is the same for all."""

    def make(**given):
        facts = {
            "time_us": 1_780_000_000_000_000,
            "request_id": "r",
            "principal": "anonymous",
            "rpc": "Caption",
            "model": "gpt",
            "provider": "openai",
            "provider_model": "gpt-5.5-2026-04-23",
            "tier_asked": "standard",
            "tier_billed": "standard",
            "usage": Usage(input_text=20, input_image=100, cached_input=30, output=10, reasoning=5),
            "cost_nano_usd": 1_500,
            "basis": "billed",
            "price_version": "v",
            "outcome": "ok",
        }
        return Row(**facts | given)

    return make


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    """The URL of an empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/state/ledger.db"
    return request.getfixturevalue("postgresql").url
