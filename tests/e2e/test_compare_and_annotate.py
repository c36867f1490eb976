"""Compare and Annotate with a real Triton and aimock, which others wrote, through the tools of three languages."""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
import subprocess
import sys
from pathlib import Path

import grpc
import pytest
from google.protobuf.json_format import Parse, ParseDict

from visiongateway.v1 import vision_service_pb2 as pb

NODE = Path(__file__).parents[1] / "node"
ROOT = Path(__file__).parents[2]
PHOTOGRAPH = ROOT / "gateway" / "demo" / "chelsea.png"
WIDTH, HEIGHT = 451, 300
USAGE = {"input_tokens": 1400, "output_tokens": 138, "total_tokens": 1538}
COST_NANO_USD = 11_140_000
# In pixels of the picture, as this model has them; the cat's face, and an ear of it.
BOXES = {
    "detections": [
        {"label": "cat", "box_2d": [20, 5, 440, 295]},
        {"label": "cat", "box_2d": [60, 10, 140, 90]},
    ]
}


@pytest.fixture
async def gateway(start_gateway, triton, aimock, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-test")
    aimock.add({"match": {"userMessage": "Find every"}, "response": {"content": json.dumps(BOXES), "usage": USAGE}})
    aimock.answer("A cat, says the large model.", usage=USAGE)
    embedded = {"kind": "triton", "profile": "embedded", "address": triton.grpc_address, "model": "embedded"}
    gpt = {"kind": "openai", "base_url": aimock.base_url}
    return await start_gateway(models={"embedded": embedded, "gpt-5.5": gpt})


async def said(*command, stdin=None):
    """Runs another program, which must end well, and gives what it printed."""
    process = await asyncio.create_subprocess_exec(
        *map(str, command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
    )
    out, _ = await asyncio.wait_for(process.communicate(stdin and stdin.encode()), 60)
    assert process.returncode == 0
    return out


def node(script):
    program = shutil.which("node")
    if program is None:
        pytest.skip("node is not installed")
    if not (NODE / "node_modules" / "@grpc" / "grpc-js").exists():
        pytest.skip("grpc-js is not installed: run `npm ci --prefix tests/node`")
    return program, NODE / script


def grpcurl(gateway, rpc, request):
    program = shutil.which("grpcurl", path=Path(sys.executable).parent)
    if program is None:
        pytest.skip("grpcurl is not installed")
    command = (program, "-plaintext", "-d", "@", gateway.addresses.grpc, f"visiongateway.v1.VisionService/{rpc}")
    return said(*command, stdin=json.dumps(request))


async def test_the_command_line_gives_one_document_that_a_page_can_draw(gateway):
    command = ("-m", "gateway.cli", "compare", PHOTOGRAPH, "--task", "detect", "--label", "cat", "--json")
    document = json.loads(await said(sys.executable, *command, "--address", gateway.addresses.grpc))

    assert document["image"] == {"width_px": WIDTH, "height_px": HEIGHT, "media_type": "image/png"}
    rows = {row["model"]: row for row in document["models"]}
    costs = {name: (row["cost_nano_usd"], row["error"]) for name, row in rows.items()}
    assert costs == {"embedded": (0, None), "gpt-5.5": (COST_NANO_USD, None)}
    assert all(row["latency_ms"] > row["upstream_ms"] > 0 for row in rows.values())
    (cat,), (face, ear) = (rows[name]["answer"]["detections"] for name in ("embedded", "gpt-5.5"))
    assert (cat["label"], 0.5 < cat["score"] <= 1, "score" in face) == ("cat", True, False)
    assert (face["box"]["x_min"], ear["box"]["y_max"]) == pytest.approx((20 / WIDTH, 90 / HEIGHT))
    (pair,) = document["agreement"]["pairs"]
    (match,) = pair["matches"]
    assert (match["first_index"], match["second_index"]) == (0, 0)
    assert match["iou"] == pytest.approx(overlap(cat["box"], face["box"]), abs=1e-6)
    # Two of three boxes match.
    assert (
        pair["score"] == document["agreement"]["scores"]["gpt-5.5"]["embedded"] == pytest.approx(match["iou"] * 2 / 3)
    )


def overlap(a, b):
    width = min(a["x_max"], b["x_max"]) - max(a["x_min"], b["x_min"])
    height = min(a["y_max"], b["y_max"]) - max(a["y_min"], b["y_min"])
    areas = [(each["x_max"] - each["x_min"]) * (each["y_max"] - each["y_min"]) for each in (a, b)]
    return width * height / (sum(areas) - width * height)


async def test_the_command_line_tells_people_who_said_what_and_how_far_that_agrees(gateway):
    command = ("-m", "gateway.cli", "compare", PHOTOGRAPH, "--task", "detect", "--label", "cat")
    lines = (await said(sys.executable, *command, "--address", gateway.addresses.grpc)).decode().splitlines()

    assert [line.split(" · ")[0] for line in lines if " · " in line] in (
        ["gpt-5.5", "embedded"],
        ["embedded", "gpt-5.5"],
    )
    assert lines[-1] == "embedded and gpt-5.5 agree to 59%, 1 objects matched"


async def test_grpcurl_reads_a_comparison_row_by_row(gateway):
    image = {"data": base64.b64encode(PHOTOGRAPH.read_bytes()).decode()}

    out = (await grpcurl(gateway, "Compare", {"detect": {"image": image, "labels": ["cat"]}})).decode()

    decoder, messages = json.JSONDecoder(), []
    while out.strip():
        message, end = decoder.raw_decode(out.strip())
        messages.append(message)
        out = out.strip()[end:]
    *rows, last = (ParseDict(message, pb.CompareResponse()) for message in messages)
    assert {row.model: len(row.answer.detect.detections) for row in rows} == {"embedded": 1, "gpt-5.5": 2}
    (pair,) = last.agreement.pairs
    assert (pair.first_model, pair.second_model, len(pair.matches)) == ("embedded", "gpt-5.5", 1)
    assert last.info.cost_nano_usd == COST_NANO_USD


async def test_grpcurl_has_several_tasks_done_at_once(gateway):
    image = {"data": base64.b64encode(PHOTOGRAPH.read_bytes()).decode()}
    tasks = [{"detect": {"labels": ["cat"]}}, {"caption": {"options": {"model": "gpt-5.5"}}}]

    answer = Parse(await grpcurl(gateway, "Annotate", {"image": image, "tasks": tasks}), pb.AnnotateResponse())

    found, told = (each.answer for each in answer.results)
    assert found.detect.detections[0].label == "cat"
    assert (told.caption.text, answer.cost_nano_usd) == ("A cat, says the large model.", COST_NANO_USD)


async def test_a_provider_s_model_does_several_tasks_in_one_call(start_gateway, aimock, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-test")
    together = {"task_1": "A cat.", "task_2": BOXES, "task_3": "Green."}
    aimock.add({"match": {"userMessage": "Do each"}, "response": {"content": json.dumps(together), "usage": USAGE}})
    gpt = {"kind": "openai", "base_url": aimock.base_url}
    gateway = await start_gateway(models={"gpt-5.5": gpt}, routes={"annotate": ["gpt-5.5"], "default": ["gpt-5.5"]})
    image = {"data": base64.b64encode(PHOTOGRAPH.read_bytes()).decode()}
    tasks = [{"caption": {}}, {"detect": {"labels": ["cat"]}}, {"vqa": {"question": "What colour are its eyes?"}}]

    answer = Parse(await grpcurl(gateway, "Annotate", {"image": image, "tasks": tasks}), pb.AnnotateResponse())

    caption, detect, vqa = (each.answer for each in answer.results)
    assert (caption.caption.text, len(detect.detect.detections), vqa.vqa.answer) == ("A cat.", 2, "Green.")
    infos = [caption.caption.info, detect.detect.info, vqa.vqa.info]
    assert answer.cost_nano_usd == sum(info.cost_nano_usd for info in infos) == COST_NANO_USD
    calls = [entry for entry in aimock.journal() if entry["path"] == "/v1/responses"]
    assert len(calls) == 1


async def test_a_node_client_reads_a_comparison(gateway):
    told = json.loads(await said(*node("compare.mjs"), gateway.addresses.grpc, PHOTOGRAPH))

    compared = told["compared"]
    assert sorted(row["model"] for row in compared["rows"]) == ["embedded", "gpt-5.5"]
    (pair,) = compared["agreement"]["pairs"]
    assert [(match["firstIndex"], match["secondIndex"]) for match in pair["matches"]] == [(0, 0)]
    assert (compared["cost"], sorted(compared["models"].split(","))) == (str(COST_NANO_USD), ["embedded", "gpt-5.5"])
    assert told["unknown"]["failure"]["code"] == "NOT_FOUND"
    assert told["unknown"]["rows"] == []


async def test_a_node_client_has_several_tasks_done_and_each_fails_by_itself(gateway):
    told = json.loads(await said(*node("annotate.mjs"), gateway.addresses.grpc, PHOTOGRAPH))

    found, why, caption = told["done"]["results"]
    assert [each["label"] for each in found["answer"]["detect"]["detections"]] == ["cat"]
    assert why["status"]["code"] == grpc.StatusCode.FAILED_PRECONDITION.value[0]
    assert caption["answer"]["caption"]["info"]["model"] == "gpt-5.5"
    assert told["done"]["costNanoUsd"] == str(COST_NANO_USD)
    assert told["refused"]["code"] == "INVALID_ARGUMENT"
    assert told["refused"]["details"].startswith("tasks[1].vqa.question: ")
