"""`vision-gateway triton check`, against a real Triton and against scripted stand-ins for one."""

from __future__ import annotations

import asyncio
import re
import sys

import grpc
import pytest

from tests.fixtures.kserve import fails, replies, whole

CAT = "a cat that looks at the camera"


@pytest.fixture
def check():
    """Runs the command in a process of its own; gives its exit code, what it printed and what it complained of."""

    async def run(address, *options):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gateway.cli", "triton", "check", "--address", address, *options),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={"PYTHONPATH": ":".join(sys.path)},
        )
        said, complained = await process.communicate()
        return process.returncode, said.decode(), complained.decode()

    return run


def report(said):
    """The block to paste, as its first words and the rest of each line."""
    (block,) = re.findall(r"^```\n(.*?)^```", said, re.MULTILINE | re.DOTALL)
    return {line.split("  ")[0]: line for line in block.splitlines() if line}


async def test_a_real_triton_passes_and_each_task_has_a_row(check, triton):
    code, said, complained = await check(
        triton.grpc_address, "--model", "embedded", "--profile", "embedded", "--concurrency", "3"
    )

    lines = report(said)
    assert (code, complained) == (0, "")
    assert lines["server"].split()[1:] == ["triton", "2.51.0"]
    assert lines["wire contract"].split()[2:] == ["kept"]
    assert [lines[task].split()[1] for task in ("Caption", "OCR", "Detect", "Classify", "VQA")] == ["ok"] * 5
    assert "Detect: cat 0." in said
    assert re.search(r"^3 captions at once: .* a second; all answered$", said, re.MULTILINE)


async def test_a_stock_model_is_checked_over_its_own_wire(check, stock):
    code, said, complained = await check(stock, "--model", "tensorrt_llm", "--wire", "llmapi")

    lines = report(said)
    assert (code, complained) == (0, "")
    assert lines["wire contract"].split()[2:] == ["kept"]
    assert lines["Caption"].split()[1] == "ok"


async def test_a_stock_model_does_not_keep_our_own_contract(check, stock):
    code, said, _ = await check(stock, "--model", "tensorrt_llm")

    assert (code, "broken" in report(said)["wire contract"]) == (1, True)


async def test_the_report_holds_no_address_and_no_answer(check, kserve):
    kserve.script = replies(whole(CAT))

    _, said, _ = await check(kserve.address)

    block = said.partition("```")[2]
    assert (kserve.address in said, CAT in said, CAT in block) == (False, True, False)


async def test_times_and_tokens_that_the_model_tells_are_in_the_report(check, kserve):
    kserve.script = replies(whole(CAT, tokens=(300, 12), ttft_us=250_000))

    _, said, _ = await check(kserve.address)

    _, outcome, *_, first, unit, read, written, rate = report(said)["Caption"].split()
    assert (outcome, first, unit, read, written) == ("ok", "250", "ms", "300", "12")
    assert float(rate) > 0


async def test_answers_that_cannot_be_used_are_told_and_fail_only_when_strict(check, kserve):
    kserve.script = replies(whole("no JSON at all"))

    lenient, said, _ = await check(kserve.address)
    strict, _, _ = await check(kserve.address, "--strict")

    assert (lenient, strict, report(said)["Detect"].split()[1]) == (0, 1, "UNUSABLE_ANSWER")


async def test_a_model_that_fails_fails_the_check(check, kserve):
    kserve.script = fails(grpc.StatusCode.UNAVAILABLE, "too many requests in flight")

    code, said, _ = await check(kserve.address, "--concurrency", "2")

    assert code == 1
    assert re.search(r"2 not answered \([A-Z_]+\)$", said, re.MULTILINE)


async def test_a_broken_contract_fails_before_the_model_is_asked(check, kserve):
    kserve.config.max_batch_size = 8
    kserve.config.model_transaction_policy.decoupled = False

    code, said, _ = await check(kserve.address)

    contract = report(said)["wire contract"].partition("broken: ")[2]
    assert (code, contract) == (1, "the model is not decoupled; max_batch_size is 8, not 0")
    assert kserve.requests == []


async def test_a_model_that_is_not_ready_fails_before_it_is_asked(check, kserve):
    kserve.model_ready = False

    code, said, _ = await check(kserve.address)

    assert (code, report(said)["model ready"].split()[2:], kserve.requests) == (1, ["NO"], [])


async def test_a_model_that_a_real_triton_does_not_have_is_not_ready(check, triton):
    code, said, _ = await check(triton.grpc_address, "--model", "gemma4")

    lines = report(said)
    assert (code, lines["server ready"].split()[2:], lines["model ready"].split()[2:]) == (1, ["yes"], ["NO"])


async def test_a_server_that_is_not_there_is_one_line_and_fails(check, unused_tcp_port):
    code, said, complained = await check(f"127.0.0.1:{unused_tcp_port}")

    assert (code, said, complained) == (1, "", "No Triton answers there.\n")


@pytest.mark.usefixtures("triton")  # Skips where none can run.
async def test_without_check_a_triton_of_its_own_is_started():
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway.cli", "triton"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={"PYTHONPATH": ":".join(sys.path)},
    )
    said = [line async for line in process.stdout if line.startswith(b"[models.embedded]") and not process.terminate()]

    assert (said, await process.wait()) == ([b"[models.embedded]\n"], 0)


async def test_a_family_that_there_is_not_is_named(check, kserve):
    code, _, complained = await check(kserve.address, "--profile", "gemma5")

    assert (code, "no model family 'gemma5'" in complained) == (1, True)
