"""What callers and operators meet at the door: grpcurl, promtool, and requests that are wrong."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import shutil
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from PIL import Image

from gateway.server.service import SERVICE
from visiongateway.v1 import call_pb2, image_pb2, vision_service_pb2 as pb

RPCS = ["Caption", "Classify", "Detect", "OCR", "VQA"]
BIN = Path(sys.executable).parent


def embedded(triton):
    return {"kind": "triton", "profile": "embedded", "address": triton.grpc_address, "model": "embedded"}


async def run(*command, given=b""):
    """Runs a program of others beside the gateway that runs in this loop."""
    process = await asyncio.create_subprocess_exec(
        *command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    said, _ = await asyncio.wait_for(process.communicate(given), 60)
    return process.returncode, said.decode()


def found(program):
    path = shutil.which(program, path=f"{BIN}:{':'.join(sys.path)}") or shutil.which(program)
    if path is None:
        pytest.skip(f"{program} is not installed")
    return path


async def test_grpcurl_lists_and_calls_the_service_by_reflection(start_gateway, triton, chelsea):
    gateway = await start_gateway(models={"embedded": embedded(triton)})
    grpcurl = found("grpcurl")
    service = "visiongateway.v1.VisionService"

    _, listed = await run(grpcurl, "-plaintext", gateway.addresses.grpc, "list", service)
    request = json.dumps({"image": {"data": base64.b64encode(chelsea).decode()}, "labels": ["cat"]})
    code, said = await run(
        grpcurl, "-plaintext", "-d", "@", gateway.addresses.grpc, f"{service}/Detect", given=request.encode()
    )

    assert sorted(listed.split()) == sorted(f"{service}.{method.name}" for method in SERVICE.methods)
    assert code == 0
    assert [each["label"] for each in json.loads(said)["detections"]] == ["cat"]


async def test_metrics_show_latency_tokens_and_cost_of_both_kinds_and_promtool_finds_nothing(
    start_gateway, triton, aimock, chelsea, monkeypatch
):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-test")
    aimock.answer("A cat.", usage={"input_tokens": 1400, "output_tokens": 138, "total_tokens": 1538})
    gateway = await start_gateway(
        models={"embedded": embedded(triton), "gpt-5.5": {"kind": "openai", "base_url": aimock.base_url}}
    )
    for model in ("embedded", "gpt-5.5", "gpt-5.5"):
        options = call_pb2.CallOptions(model=model)
        await gateway.stub.Caption(pb.CaptionRequest(image=image_pb2.Image(data=chelsea), options=options), timeout=20)
    with pytest.raises(grpc.aio.AioRpcError):
        await gateway.stub.VQA(pb.VQARequest(image=image_pb2.Image(data=b"text"), question="?"), timeout=20)

    _, text = await gateway.get("/metrics")
    values = {
        line.rpartition(" ")[0]: float(line.rpartition(" ")[2])
        for line in text.splitlines()
        if line and not line.startswith("#")
    }

    assert values['vision_gateway_requests_total{code="OK",rpc="Caption"}'] == 3
    assert values['vision_gateway_requests_total{code="INVALID_ARGUMENT",rpc="VQA"}'] == 1
    assert values['vision_gateway_images_rejected_total{limit="format"}'] == 1
    assert values['vision_gateway_upstream_duration_seconds_count{model="embedded",rpc="Caption"}'] == 1
    assert values['vision_gateway_upstream_duration_seconds_count{model="gpt-5.5",rpc="Caption"}'] == 2
    cost = 'vision_gateway_cost_usd_total{{kind="answer",model="{}",rpc="Caption",service_tier="standard"}}'
    assert values[cost.format("gpt-5.5")] == pytest.approx(0.02228, abs=1e-12)
    assert values[cost.format("embedded")] == 0
    tokens = [name for name in values if name.startswith("gen_ai_client_token_usage_sum")]
    assert {name: values[name] for name in tokens if 'gen_ai_token_type="input"' in name}.popitem()[1] == 2800
    promtool = found("promtool")
    assert await run(promtool, "check", "metrics", given=text.encode()) == (0, "")


def jpeg(size=(320, 240)):
    out = io.BytesIO()
    Image.effect_noise(size, 80).convert("RGB").save(out, "JPEG")
    return out.getvalue()


def huge_png():
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


def detect(data=None, **fields):
    image = None if data is None else image_pb2.Image(data=data)
    return "Detect", pb.DetectRequest(image=image, **fields)


WRONG = {
    "no image": (*detect(), {"image"}),
    "0 bytes": (*detect(b""), {"image"}),
    "text named .jpg": (*detect(b"this is a text"), {"image"}),
    "truncated JPEG": (*detect(jpeg()[:3000]), {"image"}),
    "30,000 x 30,000 PNG": (*detect(huge_png()), {"image"}),
    "wrong values everywhere": (
        "Detect",
        pb.DetectRequest(
            labels=["cat", ""],
            max_detections=0,
            options=call_pb2.CallOptions(
                model="m", route="r", temperature=3, max_output_tokens=1, seed=-1, max_cost_nano_usd=0
            ),
        ),
        {
            "image",
            "labels[1]",
            "max_detections",
            "options.route",
            "options.temperature",
            "options.max_output_tokens",
            "options.seed",
            "options.max_cost_nano_usd",
        },
    ),
    "no question": ("VQA", pb.VQARequest(image=image_pb2.Image(data=jpeg())), {"question"}),
}


@pytest.mark.parametrize("case", WRONG)
async def test_a_wrong_request_is_told_each_violation_and_costs_nothing_upstream(start_gateway, case):
    rpc, request, fields = WRONG[case]
    gateway = await start_gateway(models={"never": {"kind": "fake", "profile": "gemma4"}})

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await getattr(gateway.stub, rpc)(request, timeout=10)

    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    status = status_pb2.Status.FromString(dict(caught.value.trailing_metadata())["grpc-status-details-bin"])
    bad = error_details_pb2.BadRequest()
    assert any(detail.Unpack(bad) for detail in status.details)
    assert {violation.field for violation in bad.field_violations} == fields
    _, metrics = await gateway.get("/metrics")
    assert "vision_gateway_attempts_total{" not in metrics
