"""`vision-gateway triton check` against Gemma 4's own classes on a real Triton; the weights are tiny and random."""

from __future__ import annotations

import asyncio
import re
import sys


async def test_the_check_measures_every_task_though_random_weights_answer_noise(gemma4):
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway.cli", "triton", "check", "--concurrency", "2", "--max-output-tokens", "16"),
        *("--address", gemma4.triton.grpc_address),
        stdout=asyncio.subprocess.PIPE,
        env={"PYTHONPATH": ":".join(sys.path)},
    )
    said = (await process.communicate())[0].decode()
    report = said.partition("```\n")[2]

    rows = re.findall(r"^(\w+) +(\w+) +\d+ ms +(?:\d+ ms|-) +(\d+) +(\d+) +[\d.]+$", report, re.MULTILINE)
    assert [row[0] for row in rows] == ["Caption", "OCR", "Detect", "Classify", "VQA"]
    assert {row[1] for row in rows} <= {"ok", "UNUSABLE_ANSWER", "TRUNCATED_ANSWER"}
    assert all(0 < int(row[3]) <= 16 for row in rows)
    assert "engine              transformers\n" in report
    assert "wire contract       kept\n" in report
    assert process.returncode == 0
