"""Sends one photograph through all five RPCs of a running gateway and shows what comes back."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING

from rich.table import Table

from gateway.cli import output
from visiongateway import AsyncVisionClient, VisionError

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from google.protobuf.message import Message

PHOTOGRAPH = "chelsea.png"
QUESTION = "How many cats are there?"


async def show(address: str) -> None:
    """Prints a table of the five answers, or of why one could not be had."""
    photograph = files("gateway").joinpath("demo", PHOTOGRAPH).read_bytes()
    table = Table("RPC", "answer", "model", "latency", "cost", title=f"{PHOTOGRAPH}, a photograph, over gRPC")
    async with AsyncVisionClient(address) as client:
        calls: dict[str, Awaitable[Message]] = {
            "Caption": client.caption(photograph),
            "OCR": client.ocr(photograph, with_regions=True),
            "Detect": client.detect(photograph),
            "Classify": client.classify(photograph),
            "VQA": client.vqa(photograph, QUESTION),
        }
        for rpc, call in calls.items():
            _add(table, rpc, await _answer(call))
    output.console.print(table)


async def _answer(call: Awaitable[Message]) -> Message | VisionError:
    try:
        return await call
    except VisionError as exc:
        return exc


def _add(table: Table, rpc: str, response: Message | VisionError) -> None:
    name = f"{rpc}\n{QUESTION}" if rpc == "VQA" else rpc
    if isinstance(response, VisionError):
        table.add_row(name, str(response), "", "", "")
        return
    info = response.info  # type: ignore[attr-defined]  # Every response has one.
    table.add_row(name, output.answer(rpc, response), output.model(info), output.latency(info), output.cost(info))
