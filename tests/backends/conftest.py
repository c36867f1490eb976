from __future__ import annotations

import socket

import pytest

from gateway.backends import openai as openai_kind, triton as triton_kind
from gateway.domain import ImagePlan, Prompt, SentImage
from tests.fixtures.openai_calls import KEY, options


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


@pytest.fixture
async def scripted_triton(kserve, clock):
    """A model on a Triton that answers from a script."""
    async with triton_kind.connect(triton_kind.Options(address=kserve.address, model="gemma4"), clock=clock) as backend:
        yield backend


@pytest.fixture
def key(monkeypatch):
    """The key that the options of these tests name."""
    monkeypatch.setenv("VISION_GATEWAY_TEST_KEY", KEY)


@pytest.fixture
async def openai(llmock, clock):
    """A model at llmock."""
    async with openai_kind.connect(options(llmock.base_url()), clock=clock) as backend:
        yield backend
