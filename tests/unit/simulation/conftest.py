"""Simulations of two models with the figures that Roboflow published."""

from __future__ import annotations

import pytest

from gateway.settings import load
from gateway.simulation import behaviour
from gateway.simulation.replay import Simulation

FAMILIES = {"cheap": "gemma4", "dear": "gpt55"}
MODELS = {
    "cheap": {"kind": "fake", "profile": "gemma4", "breaker": False, "retry": False},
    "dear": {
        "kind": "fake",
        "profile": "gpt55",
        "breaker": False,
        "retry": False,
        "price": {"input": "5", "output": "30"},
    },
}
ROUTES = {
    "cheap": ["cheap"],
    "dear": ["dear"],
    "both": ["cheap", "dear"],
    "escalate": {"models": ["cheap", "dear"], "escalate": True},
}


@pytest.fixture
def models():
    return MODELS


@pytest.fixture
def simulation():
    def make(*, seed=1, models=MODELS, routes=ROUTES, **changes):
        behaviours = {name: each.model_copy(update=changes) for name, each in behaviour.of_families(FAMILIES).items()}
        return Simulation(load(models=models, routes=routes), behaviours, seed)

    return make
