from __future__ import annotations

import socket

import pytest

from gateway.domain import ImagePlan, Prompt, SentImage


class ManualClock:
    """A clock that moves only when told."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def prompt():
    return Prompt(rpc="Caption", user="Describe the image.", max_output_tokens=256, request_id="req-1")


@pytest.fixture
def images():
    return (SentImage(b"\xff\xd8 jpeg bytes", "image/jpeg", ImagePlan(640, 480, token_count=268, budget="280")),)


@pytest.fixture
def unused_address():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{listener.getsockname()[1]}"
