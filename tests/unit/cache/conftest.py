from __future__ import annotations

import pytest


class Clock:
    """A clock that moves only when told."""

    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()
