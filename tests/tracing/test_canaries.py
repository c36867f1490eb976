"""Nothing of an image, a question, an answer or a key leaves the gateway but to its caller and its models.

Every RPC is called with canaries in all of them, of models that answer with them, and of models that fail with them.
Then they are looked for in the log at its lowest level, in the metrics, in the traces, and in what callers are told.
"""

from __future__ import annotations

import base64
import hashlib
import io

import grpc
import pytest
from grpc import StatusCode
from PIL import Image, PngImagePlugin

from gateway.server import log
from tests.fixtures.kserve import fails, replies, whole
from tests.fixtures.openai_calls import request_to, stand_in
from visiongateway.v1 import call_pb2, image_pb2, vision_service_pb2 as pb

CANARY = "canary92ab"
KEY = f"key-{CANARY}"
RPCS = {method.name for method in pb.DESCRIPTOR.services_by_name["VisionService"].methods}


def picture():
    """A picture whose file has a canary in its words."""
    words = PngImagePlugin.PngInfo()
    words.add_text("Comment", CANARY)
    out = io.BytesIO()
    Image.new("RGB", (64, 48), "teal").save(out, "PNG", pnginfo=words)
    return out.getvalue()


BROKEN = picture()[:60] + CANARY.encode()
SCHEMA = {"type": "object", "properties": {CANARY: {"type": "string"}}}


def requests(model, data):
    """One request of every RPC that has to do with a model."""
    image, options = image_pb2.Image(data=data), call_pb2.CallOptions(model=model)
    common = {"image": image, "options": options}
    told = {"question": CANARY, **common}
    asked = {"prompt": CANARY, "system": CANARY, **common}
    yield "Caption", pb.CaptionRequest(**common)
    yield "OCR", pb.OCRRequest(**common)
    yield "Detect", pb.DetectRequest(labels=[CANARY], prompt=CANARY, **common)
    yield "Classify", pb.ClassifyRequest(labels=[CANARY, "other"], **common)
    yield "VQA", pb.VQARequest(**told)
    yield "VQA", pb.VQARequest(answer_schema=SCHEMA, **told)
    yield "Prompt", pb.PromptRequest(**asked)
    yield "StreamCaption", pb.StreamCaptionRequest(**common)
    yield "StreamOCR", pb.StreamOCRRequest(**common)
    yield "StreamVQA", pb.StreamVQARequest(**told)
    yield "StreamPrompt", pb.StreamPromptRequest(**asked)
    question = pb.VQARequest(question=CANARY)
    tasks = [pb.AnnotateTask(vqa=question), pb.AnnotateTask(detect=pb.DetectRequest(labels=[CANARY]))]
    yield "Annotate", pb.AnnotateRequest(image=image, tasks=tasks, options=options)
    yield "Compare", pb.CompareRequest(vqa=pb.VQARequest(image=image, question=CANARY), models=[model])
    yield "Quote", pb.QuoteRequest(vqa=pb.VQARequest(**told))
    yield "ListModels", pb.ListModelsRequest()


async def outcome(stub, rpc, request, key=KEY):
    """The code of a call, and all that its caller is told where it failed."""
    call = getattr(stub, rpc)(request, timeout=20, metadata=(("authorization", f"Bearer {key}"),))
    try:
        if pb.DESCRIPTOR.services_by_name["VisionService"].methods_by_name[rpc].server_streaming:
            async for _ in call:
                pass
        else:
            await call
    except grpc.aio.AioRpcError as error:
        return error.code(), f"{error.details()} {tuple(error.trailing_metadata())!r}"
    return StatusCode.OK, ""


async def refuse(reader, writer):
    """Answers as a provider does that repeats what it was sent."""
    await request_to(reader)
    body = f'{{"error": {{"message": "{CANARY}", "code": "{CANARY}", "type": "{CANARY}", "param": "{CANARY}"}}}}'
    head = f"HTTP/1.1 400 {CANARY}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
    writer.write(f"{head}x-request-id: {CANARY}\r\nconnection: close\r\n\r\n{body}".encode())
    await writer.drain()


@pytest.fixture
async def gateway(start_gateway, traces, kserve, log_lines, monkeypatch):  # noqa: ARG001  the log as operators have it
    log.set_level("DEBUG")
    monkeypatch.setenv("OPENAI_API_KEY", f"sk-{CANARY}")
    often = {"retry": False, "breaker": False, "price": {"input": "1", "output": "1"}}
    async with stand_in(refuse) as url:
        yield await start_gateway(
            server={"log_level": "DEBUG"},
            models={
                "triton": {"kind": "triton", "address": kserve.address, "model": "gemma4", **often},
                "openai": {"kind": "openai", "base_url": url, **often},
                "scripted": {"kind": "fake", "profile": "gemma4", "answer": CANARY, **often},
            },
            principals={"someone": {"key_sha256": [hashlib.sha256(KEY.encode()).hexdigest()]}},
            tracing={"endpoint": traces.endpoint, "propagate": "all"},
            cache={"store": "memory"},
            images={"workers": 1},
        )


async def test_no_canary_is_seen_anywhere(gateway, traces, kserve, log_lines):
    seen, codes, called = [], set(), set()
    scripts = [
        replies(whole(CANARY)),
        replies(whole(f'{{"{CANARY}": "{CANARY}"')),
        fails(StatusCode.INTERNAL, CANARY),
        fails(StatusCode.INVALID_ARGUMENT, CANARY),
    ]
    runs = [("triton", picture(), script) for script in scripts]
    runs += [("openai", picture(), None), ("scripted", picture(), None), ("scripted", BROKEN, None)]
    for model, data, script in runs:
        kserve.script = script or kserve.script
        for rpc, request in requests(model, data):
            code, told = await outcome(gateway.stub, rpc, request)
            called.add(rpc)
            codes.add(code)
            seen.append(told)
    wrong = f"wrong-{CANARY}"
    for image in (image_pb2.Image(data=picture()), image_pb2.Image(url=f"https://{CANARY}/")):
        _, told = await outcome(gateway.stub, "VQA", pb.VQARequest(image=image, question=CANARY), key=wrong)
        seen.append(told)
    _, metrics = await gateway.get("/metrics")
    spans = repr(await traces.of_calls(len(runs) * len([*requests("", b"")]) + 2))

    assert called == RPCS
    assert {StatusCode.OK, StatusCode.INTERNAL, StatusCode.INVALID_ARGUMENT, StatusCode.UNAVAILABLE} <= codes
    for place in (log_lines.getvalue(), metrics, spans, *seen):
        for canary in (CANARY, base64.b64encode(CANARY.encode()).decode(), CANARY.encode().hex()):
            assert canary not in place
    assert '"level":"debug"' in log_lines.getvalue()
