from __future__ import annotations

import os
import subprocess
import sys

import pytest
from pydantic import ValidationError

from gateway.backends import open_backend, parse_options


def test_an_unknown_kind_lists_those_there_are():
    with pytest.raises(LookupError, match="no backend of kind 'vertex'; there are fake, openai, triton"):
        parse_options("vertex", {})


@pytest.mark.parametrize("kind", ["_triton_contract", "../policies", "os", ""])
def test_only_kinds_can_be_named(kind):
    with pytest.raises(LookupError):
        parse_options(kind, {})


def test_every_wrong_option_is_told_at_once():
    with pytest.raises(ValidationError) as caught:
        parse_options("triton", {"model": "", "modell": "gemma4", "keepalive_s": "soon"})

    assert sorted(error["loc"] for error in caught.value.errors()) == [("keepalive_s",), ("model",), ("modell",)]


async def test_a_backend_opens_with_its_parsed_options(prompt):
    options = parse_options("fake", {"answer": "a cat"})

    async with open_backend("fake", options) as backend:
        assert (await backend.complete(prompt, (), timeout_s=1)).text == "a cat"


@pytest.mark.parametrize(
    ("kind", "raw", "forbidden"),
    [
        ("triton", {"model": "gemma4"}, {"openai", "httpx2", "aiohttp"}),
        ("openai", {}, {"tritonclient", "numpy"}),
        ("fake", {}, {"openai", "aiohttp", "tritonclient", "numpy"}),
    ],
)
def test_a_kind_loads_the_sdk_of_no_other(kind, raw, forbidden):
    program = f"""
import asyncio, sys
from gateway.backends import open_backend, parse_options

async def main():
    async with open_backend({kind!r}, parse_options({kind!r}, {raw!r})) as backend:
        await backend.ready()

asyncio.run(main())
print(*sorted({forbidden!r} & sys.modules.keys()))
"""
    keyless = {**os.environ, "OPENAI_API_KEY": ""}
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=keyless)

    assert run.stdout.split() == []
