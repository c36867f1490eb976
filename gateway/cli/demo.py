"""Sends one photograph through all five RPCs of a running gateway and shows what comes back."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING, Any

from rich.table import Table

from gateway.cli import output
from visiongateway import AsyncVisionClient, VisionError

if TYPE_CHECKING:
    from collections.abc import Awaitable

PHOTOGRAPH = "chelsea.png"
QUESTION = "How many cats are there?"


async def show(address: str) -> None:
    """Prints a table of the five answers, or of why one could not be had."""
    photograph = files("gateway").joinpath("demo", PHOTOGRAPH).read_bytes()
    table = Table("RPC", "answer", "model", "latency", "cost", title=f"{PHOTOGRAPH}, a photograph, over gRPC")
    async with AsyncVisionClient(address) as client:
        table.add_row("Caption", *await _row("Caption", client.caption(photograph)))
        table.add_row("OCR", *await _row("OCR", client.ocr(photograph, with_regions=True)))
        table.add_row("Detect", *await _row("Detect", client.detect(photograph)))
        table.add_row("Classify", *await _row("Classify", client.classify(photograph)))
        table.add_row(f"VQA\n{QUESTION}", *await _row("VQA", client.vqa(photograph, QUESTION)))
    output.console.print(table)


async def _row(rpc: str, call: Awaitable[Any]) -> tuple[str, ...]:
    try:
        response = await call
    except VisionError as exc:
        return ("\n".join(output.problem(exc)),)
    info = response.info
    return output.answer(rpc, response), output.model(info), output.latency(info), output.cost(info)
