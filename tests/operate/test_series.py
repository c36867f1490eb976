"""How many series there are, and that no caller can add to them."""

from __future__ import annotations

import asyncio
import hashlib
import itertools

import grpc
import pytest

from tests.operate.mixed_traffic import picture, script
from visiongateway.v1 import call_pb2, image_pb2, vision_service_pb2 as pb

MODELS = [f"model-{letter}" for letter in "abcde"]
PRINCIPALS = {f"principal-{index:02}": f"key {index}" for index in range(20)}
FLOOD = 100


@pytest.fixture
def start(start_gateway, tmp_path):
    """Starts a gateway that knows 5 models, the last of which has *outcomes*, and 20 principals with budgets."""

    def starting(*outcomes):
        failing = {"outcomes": outcomes, "repeat": True}
        return start_gateway(
            models={name: script(**(failing if name == MODELS[-1] else {})) for name in MODELS},
            principals={
                name: {"key_sha256": [hashlib.sha256(key.encode()).hexdigest()], "budget": {"day": "5", "month": "50"}}
                for name, key in PRINCIPALS.items()
            },
            budgets={"store": f"sqlite:///{tmp_path}/budgets.db"},
            ledger={"url": f"sqlite:///{tmp_path}/ledger.db"},
            cache={"store": "memory"},
            images={"workers": 1},
            server={"readiness_interval_s": 0.1},
        )

    return starting


def key_of(principal):
    return [("authorization", f"Bearer {PRINCIPALS[principal]}")]


def requests(image, **options):
    """Gives a request for each RPC."""
    asked = {"image": image, "options": call_pb2.CallOptions(**options)}
    caption, question = pb.CaptionRequest(image=image), {"question": "How many?"}
    return {
        "Caption": pb.CaptionRequest(**asked),
        "OCR": pb.OCRRequest(**asked),
        "Detect": pb.DetectRequest(**asked, labels=["cat"]),
        "Classify": pb.ClassifyRequest(**asked, labels=["cat", "dog"]),
        "VQA": pb.VQARequest(**asked, **question),
        "Prompt": pb.PromptRequest(**asked, prompt="What is it?"),
        "StreamCaption": pb.StreamCaptionRequest(**asked),
        "StreamOCR": pb.StreamOCRRequest(**asked),
        "StreamVQA": pb.StreamVQARequest(**asked, **question),
        "StreamPrompt": pb.StreamPromptRequest(**asked, prompt="What is it?"),
        "Annotate": pb.AnnotateRequest(**asked, tasks=[pb.AnnotateTask(caption=pb.CaptionRequest())]),
        "Compare": pb.CompareRequest(caption=caption),
        "Quote": pb.QuoteRequest(caption=caption),
        "ListModels": pb.ListModelsRequest(),
    }


async def ended(call):
    """Waits for a call to end, and says how."""
    try:
        if isinstance(call, grpc.aio.UnaryStreamCall):
            async for _ in call:
                pass
        else:
            await call
    except grpc.aio.AioRpcError as error:
        return error.code().name
    return "OK"


async def series(gateway):
    """Gives the name and labels of every series."""
    _, text = await gateway.get("/metrics")
    return {line.rpartition(" ")[0] for line in text.splitlines() if line and not line.startswith("#")}


async def use_everything(gateway):
    """Makes calls of every RPC at every model, as every principal."""
    said = set()
    for shade, (principal, model) in enumerate(zip(PRINCIPALS, itertools.cycle(MODELS), strict=False)):
        calls = requests(picture(shade), model=model)
        metadata = key_of(principal)
        said.update(
            await asyncio.gather(
                *(ended(getattr(gateway.stub, rpc)(each, timeout=30, metadata=metadata)) for rpc, each in calls.items())
            )
        )
    return said


async def test_20_principals_and_5_models_under_every_rpc_make_fewer_than_2000_series(start):
    gateway = await start("OK", "UNUSABLE_ANSWER", "REFUSED")

    said = await use_everything(gateway)

    names = await series(gateway)
    assert {
        rpc for rpc in requests(picture()) if f'vision_gateway_requests_total{{code="OK",rpc="{rpc}"}}' in names
    } == (requests(picture()).keys())
    assert said >= {"OK", "INTERNAL", "FAILED_PRECONDITION"}
    assert len([name for name in names if name.startswith("vision_gateway_budget_remaining_usd")]) == 40
    assert len(names) < 2000


async def test_a_flood_of_unknown_keys_labels_models_and_urls_adds_none(start):
    gateway = await start()
    await use_everything(gateway)
    await flood(gateway, "once")
    before = await series(gateway)

    for index in range(FLOOD):
        await flood(gateway, f"{index}")

    assert await series(gateway) == before


async def flood(gateway, word):
    """Calls with everything that a caller can make up, named after *word*."""
    image, url = picture(1), image_pb2.Image(url=f"https://{word}.example/{word}.png")
    mine = key_of("principal-00")
    stub = gateway.stub
    unknown = gateway.channel.unary_unary(f"/visiongateway.v1.VisionService/{word}")
    elsewhere = gateway.channel.unary_unary(f"/{word}/{word}")
    options = call_pb2.CallOptions
    await asyncio.gather(
        ended(stub.Caption(pb.CaptionRequest(image=image), metadata=[("authorization", f"Bearer {word}")])),
        ended(stub.Caption(pb.CaptionRequest(image=image, options=options(model=word)), metadata=mine)),
        ended(stub.Caption(pb.CaptionRequest(image=image, options=options(route=word)), metadata=mine)),
        ended(stub.Caption(pb.CaptionRequest(image=image, options=options(category=word)), metadata=mine)),
        ended(stub.Detect(pb.DetectRequest(image=image, labels=[word]), metadata=mine)),
        ended(stub.Caption(pb.CaptionRequest(image=url), metadata=mine)),
        ended(stub.VQA(pb.VQARequest(image=image, question=word), metadata=[*mine, ("x-request-id", word)])),
        ended(unknown(word.encode())),
        ended(elsewhere(word.encode())),
        gateway.get(f"/{word}"),
    )
