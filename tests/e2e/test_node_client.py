"""A client in another language: Node with @grpc/grpc-js, made from proto/ as it stands."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from pathlib import Path

import pytest

NODE = Path(__file__).parents[1] / "node"
PHOTOGRAPH = Path(__file__).parents[2] / "gateway" / "demo" / "chelsea.png"


async def test_a_node_client_gets_typed_answers_and_typed_failures(start_gateway, triton):
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    if not (NODE / "node_modules" / "@grpc" / "grpc-js").exists():
        pytest.skip("grpc-js is not installed: run `npm ci --prefix tests/node`")
    embedded = {"kind": "triton", "profile": "embedded", "address": triton.grpc_address, "model": "embedded"}
    gateway = await start_gateway(models={"embedded": embedded})

    process = await asyncio.create_subprocess_exec(
        node, NODE / "detect.mjs", gateway.addresses.grpc, PHOTOGRAPH, stdout=subprocess.PIPE
    )
    said = json.loads((await asyncio.wait_for(process.communicate(), 60))[0])

    (detection,) = said["found"]["detections"]
    assert detection["label"] == "cat"
    assert 0 <= detection["box"]["xMin"] < detection["box"]["xMax"] <= 1
    assert said["found"]["info"]["costBasis"] == "COST_BASIS_FREE"
    assert said["refused"]["code"] == "INVALID_ARGUMENT"
    assert said["refused"]["details"].startswith("question: ")
    assert said["trailers"]["Detect"] == "embedded"
    (candidate,) = said["quoted"]["candidates"]
    assert (candidate["model"], candidate["sentWidthPx"]) == ("embedded", 451)
