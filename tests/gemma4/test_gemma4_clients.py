"""Streams through the tools of other languages: Gemma 4 on a real Triton, tiny, and aimock in the place of OpenAI."""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf.json_format import Parse

from tests.fixtures.streams import on_triton
from tests.fixtures.triton import Asker
from visiongateway.v1 import vision_service_pb2 as pb

ROOT = Path(__file__).parents[2]
NODE = ROOT / "tests" / "node"
PHOTOGRAPH = ROOT / "gateway" / "demo" / "chelsea.png"
SAID = "A cat looks into the lens, its ears up and its eyes wide."
USAGE = {"input_tokens": 1400, "output_tokens": 138, "total_tokens": 1538}


@pytest.fixture
async def gateway(start_gateway, gemma4, aimock, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-test")
    slowly = {"ttft": 10, "tps": 100}
    response = {"content": SAID, "usage": USAGE}
    aimock.add({"match": {}, "response": response, "chunkSize": 4, "streamingProfile": slowly})
    gpt = {"kind": "openai", "base_url": aimock.base_url, "retry": False}
    return await start_gateway(models={"gemma": on_triton(gemma4.triton.grpc_address), "gpt-5.5": gpt})


async def said(*command, stdin=""):
    process = await asyncio.create_subprocess_exec(
        *map(str, command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
    )
    out, _ = await asyncio.wait_for(process.communicate(stdin.encode()), 100)
    assert process.returncode == 0
    return out.decode()


async def test_a_node_client_reads_streams_whole_answers_and_the_models(gateway, gemma4):
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    if not (NODE / "node_modules" / "@grpc" / "grpc-js").exists():
        pytest.skip("grpc-js is not installed: run `npm ci --prefix tests/node`")

    found = json.loads(await said(node, NODE / "stream.mjs", gateway.addresses.grpc, PHOTOGRAPH, "gemma", "gpt-5.5"))

    for model, told in found["told"].items():
        for rpc, text in (("caption", "text"), ("vqa", "answer"), ("prompt", "text")):
            stream = told[rpc]
            assert len(stream["deltas"]) > 1
            assert "".join(stream["deltas"]) == stream["answer"][text]
            assert (stream["code"], stream["model"], stream["answer"]["info"]["model"]) == ("OK", model, model)
            assert "timeToFirstToken" in stream["answer"]["info"]["timing"]
        assert told["whole"]["text"] == told["prompt"]["answer"]["text"]
        assert (told["left"]["code"], told["left"]["answer"]) == ("CANCELLED", None)
    assert found["told"]["gpt-5.5"]["caption"]["answer"]["text"] == SAID
    assert (found["refused"]["code"], found["refused"]["deltas"]) == ("INVALID_ARGUMENT", [])
    listed = {model["name"]: model["capabilities"]["streaming"] for model in found["listed"]["models"]}
    assert listed == {"gemma": True, "gpt-5.5": True}
    # What Node left, the model has left too.
    asker = Asker(gateway.channel, gemma4.triton.metrics_url)
    async with asyncio.timeout(60):
        while await asker.metric("vision_gemma4_in_flight"):  # noqa: ASYNC110  a number of another process
            await asyncio.sleep(0.02)


@pytest.fixture
def grpcurl(gateway):
    program = shutil.which("grpcurl", path=Path(sys.executable).parent)
    if program is None:
        pytest.skip("grpcurl is not installed")

    async def call(rpc, response, **request):
        """Gives the messages that it printed, which it knows by the server's own description."""
        address, method = gateway.addresses.grpc, f"visiongateway.v1.VisionService/{rpc}"
        printed = await said(program, "-plaintext", "-d", "@", address, method, stdin=json.dumps(request))
        decoder, messages = json.JSONDecoder(), []
        while printed := printed.lstrip():
            message, end = decoder.raw_decode(printed)
            messages.append(Parse(json.dumps(message), response()))
            printed = printed[end:]
        return messages

    return call


@pytest.mark.parametrize("model", ["gemma", "gpt-5.5"])
async def test_grpcurl_prints_each_delta_and_the_answer(grpcurl, model):
    image = {"data": base64.b64encode(PHOTOGRAPH.read_bytes()).decode()}
    options = {"model": model, "temperature": 0, "max_output_tokens": 40}
    prompt = {"image": image, "prompt": "What is there?", "options": options}

    *deltas, caption = await grpcurl("StreamCaption", pb.StreamCaptionResponse, image=image, options=options)
    *pieces, prompted = await grpcurl("StreamPrompt", pb.StreamPromptResponse, **prompt)
    (whole,) = await grpcurl("Prompt", pb.PromptResponse, **prompt)

    assert (len(deltas) > 1, len(pieces) > 1) == (True, True)
    assert "".join(each.delta for each in deltas) == caption.answer.text
    assert "".join(each.delta for each in pieces) == prompted.answer.text == whole.text
    assert {each.info.model for each in (caption.answer, prompted.answer, whole)} == {model}


async def test_grpcurl_lists_the_models(grpcurl):
    (listed,) = await grpcurl("ListModels", pb.ListModelsResponse)

    models = {model.name: model for model in listed.models}
    assert (models["gemma"].family, models["gpt-5.5"].family) == ("gemma4", "gpt55")
    assert "Prompt" in models["gemma"].tasks
    assert models["gpt-5.5"].price.output_nano_usd_per_token == 30_000
