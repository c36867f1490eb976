"""A gateway that does all it can do, and callers of all kinds."""

from __future__ import annotations

import asyncio
import hashlib
import io
import itertools
import json
from typing import TYPE_CHECKING

import grpc
from PIL import Image

from tests.fixtures.pki import Authority
from visiongateway.v1 import call_pb2, image_pb2, vision_service_pb2 as pb

if TYPE_CHECKING:
    from pathlib import Path

KEYS = {
    "nobody": "a key that nobody knows",
    "anna": "anna's key",
    "poor": "the key of one with no budget",
    "hasty": "the key of one who may call once",
}
_WORDS = "A cat sleeps on a red sofa."
_LINES = {"lines": [{"text": "TOTAL 7", "box_2d": [0, 0, 100, 500]}]}
_ANSWERS = {
    "Detect": json.dumps({"detections": [{"label": "cat", "box_2d": [0, 0, 500, 500]}]}),
    "OCR": json.dumps(_LINES),
    "Classify": json.dumps({"labels": [{"label": "cat"}]}),
}


def script(price="0.1", **options):
    """Gives the settings of a scripted model; *price* is in US dollars per million tokens."""
    prices = {"input": price, "output": price}
    taken = {"delay_s": 0.002, "time_to_first_token_s": 0.001}
    return {
        "kind": "fake",
        "profile": "gemma4",
        "price": prices,
        "answer": _WORDS,
        "answers": _ANSWERS,
        **taken,
        **options,
    }


def _principal(name, **limits):
    return {"key_sha256": [hashlib.sha256(KEYS[name].encode()).hexdigest()], **limits}


def tables(triton, llmock, folder: Path):
    """Gives settings in which every policy has something to do."""
    return {
        "models": {
            "cheap": script(),
            "blind": script(answers={**_ANSWERS, "OCR": json.dumps({"lines": []})}),
            "dear": script("10"),
            "slow": script(delay_s=0.2),
            "flaky": script(outcomes=["BACKEND_UNAVAILABLE", "OK", "TRUNCATED_ANSWER"], repeat=True),
            "down": script(outcomes=["BACKEND_UNAVAILABLE"], repeat=True, ready=False),
            "free": {**script(), "price": "free"},
            "embedded": {
                "kind": "triton",
                "profile": "embedded",
                "address": triton.grpc_address,
                "model": "embedded",
                "price": "free",
            },
            # llmock, which others wrote, is in OpenAI's place.
            "gpt": {"kind": "openai", "base_url": llmock.base_url()},
        },
        "routes": {
            "default": ["cheap", "dear"],
            "caption": {"models": ["slow", "free"], "hedge": {"after_s": 0.02}},
            "ocr": {"models": ["blind", "dear"], "escalate": True},
            "detect": ["down", "flaky", "dear"],
            "vqa": {"models": ["cheap", "dear"], "shadow": {"model": "dear", "share": 1}},
            "local": ["embedded"],
        },
        "principals": {
            "anonymous": {"budget": {"day": "10"}},
            "anna": _principal("anna", budget={"month": "5"}),
            "poor": _principal("poor", budget={"hour": "0"}),
            "hasty": _principal("hasty", requests_per_s=1),
        },
        "budgets": {"store": f"sqlite:///{folder}/budgets.db"},
        "ledger": {"url": f"sqlite:///{folder}/ledger.db"},
        "cache": {"store": "memory"},
        "images": {"workers": 1},
        "server": {"readiness_interval_s": 0.2},
    }


def without_store():
    """Gives settings of a gateway whose store of budgets is down."""
    return {
        "models": {"cheap": script()},
        "principals": {"anonymous": {"budget": {"day": "10"}}},
        "budgets": {"store": "redis://127.0.0.1:1/0"},
        "images": {"workers": 1},
    }


def with_tls(folder: Path):
    """Gives settings of a gateway with a certificate at its gRPC port."""
    leaf = Authority().server()
    (folder / "tls.crt").write_bytes(leaf.cert)
    (folder / "tls.key").write_bytes(leaf.key)
    tls = {"cert": f"{folder}/tls.crt", "key": f"{folder}/tls.key", "http": False}
    return {"models": {"cheap": script()}, "images": {"workers": 1}, "server": {"tls": tls}}


def picture(shade=0, size=(320, 240)):
    """Gives a picture of its own for each *shade*, in [0, 2^24)."""
    out = io.BytesIO()
    Image.new("RGB", size, (shade >> 16, shade >> 8 & 255, shade & 255)).save(out, "PNG")
    return image_pb2.Image(data=out.getvalue())


class Callers:
    """All kinds of callers of one gateway."""

    def __init__(self, gateway):
        self._stub = gateway.stub
        self._shades = itertools.count(1)

    async def call(self):
        """Makes one round of calls, some of which fail."""
        same = picture(next(self._shades))
        asked = [self.ask(rpc, principal=name) for rpc in _REQUESTS for name in (None, "anna")]
        asked += [
            self.ask("VQA", principal="poor"),
            self.ask("Caption", model="down"),
            self.ask("Caption", principal="nobody"),
            self.ask("VQA", image=image_pb2.Image(data=b"no image")),
        ]
        asked += [self.ask("Classify", principal="hasty") for _ in range(3)]
        asked += [self.ask("Detect") for _ in range(3)]
        asked += [self.ask("Detect", route="local", labels=["cat"]), self.ask("Classify", model="embedded")]
        asked += [self.ask("Caption", model="gpt")]
        await asyncio.gather(*asked)
        for _ in range(2):
            await self.ask("Classify", image=same)

    async def ask(self, rpc, *, image=None, principal=None, labels=("cat", "dog"), **options):
        """Calls once, as *principal*; a failure is one of the things that callers meet."""
        request = _REQUESTS[rpc](labels)
        request.image.CopyFrom(image or picture(next(self._shades)))
        request.options.CopyFrom(call_pb2.CallOptions(**options))
        metadata = [("authorization", f"Bearer {KEYS[principal]}")] if principal else []
        try:
            await getattr(self._stub, rpc)(request, timeout=30, metadata=metadata)
        except grpc.aio.AioRpcError as error:
            return error.code().name
        return "OK"


_REQUESTS = {
    "Caption": lambda _: pb.CaptionRequest(),
    "OCR": lambda _: pb.OCRRequest(with_regions=True),
    "Detect": lambda labels: pb.DetectRequest(labels=labels),
    "Classify": lambda labels: pb.ClassifyRequest(labels=labels),
    "VQA": lambda _: pb.VQARequest(question="How many cats?"),
}
