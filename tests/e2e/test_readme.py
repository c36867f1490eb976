"""The commands and the code that README and docs show, run as they stand, against a gateway on a real Triton."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
# What sets up the machine itself is run by whoever runs this suite.
SET_UP = {"make run", "make test"}


def blocks(document, language):
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / document).read_text(), re.MULTILINE | re.DOTALL)


def commands(document):
    joined = re.sub(r"(\\|(\|))\n", r"\2", "".join(blocks(document, "sh")))
    return [line for line in joined.splitlines() if line and line not in SET_UP]


@pytest.fixture
async def gateway(start_gateway, triton):
    embedded = {"kind": "triton", "profile": "embedded", "address": triton.grpc_address, "model": "embedded"}
    return await start_gateway(models={"embedded": embedded})


@pytest.fixture
def shell(gateway, tmp_path):
    """Runs a command of a document with the addresses of the gateway that runs, from the project's folder."""
    grpcurl = shutil.which("grpcurl", path=f"{BIN}:{':'.join(sys.path)}")
    (tmp_path / "gateway.toml").write_text(blocks("README.md", "toml")[0])

    async def run(command):
        for written, real in (
            ("127.0.0.1:50051", gateway.addresses.grpc),
            ("127.0.0.1:8080", gateway.addresses.http),
            (".venv/bin/", f"{BIN}/"),
            ("gateway.toml", str(tmp_path / "gateway.toml")),
        ):
            command = command.replace(written, real)
        process = await asyncio.create_subprocess_shell(
            # A signal should reach the program and not its shell.
            f"exec {command}" if "serve" in command else command,
            cwd=ROOT,
            env={
                **os.environ,
                "PATH": f"{BIN}:{Path(grpcurl).parent}:{os.environ['PATH']}",
                "VISION_GATEWAY_ADDRESS": gateway.addresses.grpc,
                "VISION_GATEWAY_SERVER__GRPC_ADDRESS": "127.0.0.1:0",
                "VISION_GATEWAY_SERVER__HTTP_ADDRESS": "127.0.0.1:0",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        if "serve" in command:
            first = await asyncio.wait_for(process.stdout.readline(), 30)
            os.killpg(process.pid, signal.SIGTERM)
            said = first + (await asyncio.wait_for(process.communicate(), 30))[0]
        else:
            said = (await asyncio.wait_for(process.communicate(), 60))[0]
        return process.returncode, said.decode()

    return run


EXPECTED = {
    ".venv/bin/vision-gateway detect": r"^cat 0\.9",
    ".venv/bin/vision-gateway vqa": r'"answer": "1 cat',
    ".venv/bin/vision-gateway caption": r"^The picture shows a cat[^\n]*\nembedded · ",
    ".venv/bin/vision-gateway annotate": r"^detect · embedded · .*\ncat 0\.9",
    ".venv/bin/vision-gateway compare": r"^cat 0\.9",
    ".venv/bin/vision-gateway models": r"^embedded  ready · triton, embedded · .*Caption.* · free",
    "grpcurl -plaintext 127.0.0.1:50051 list": r"VisionService\.Caption",
    "echo": r'"text": "The picture shows a cat',
    "vision-gateway check-settings": r"is fine",
    "vision-gateway serve": r"^Vision Gateway is serving",
}


@pytest.mark.parametrize("command", commands("README.md"))
async def test_every_command_of_the_readme_does_what_it_says(shell, command):
    (expected,) = [pattern for start, pattern in EXPECTED.items() if command.startswith(start)]

    code, said = await shell(command)

    assert re.search(expected, said, re.MULTILINE), said
    assert code == 0


async def run_python(code, gateway, folder):
    """Gives what *code* prints, with the address of the gateway that runs."""
    script = folder / "call.py"
    script.write_text(code.replace("127.0.0.1:50051", gateway.addresses.grpc))
    process = await asyncio.create_subprocess_exec(sys.executable, script, cwd=ROOT, stdout=subprocess.PIPE)
    return (await asyncio.wait_for(process.communicate(), 60))[0].decode()


async def test_the_python_of_the_readme_finds_the_cat(gateway, tmp_path):
    code, _ = blocks("README.md", "python")
    said = await run_python(code, gateway, tmp_path)

    assert re.search(r"^cat 0\.0\d+ 0\.0\d+ 0\.9\d+ 0\.9\d+\nembedded 0 nano-USD$", said, re.MULTILINE), said


async def test_the_python_of_the_readme_streams_and_compares(gateway, tmp_path):
    _, code = blocks("README.md", "python")

    said = await run_python(code, gateway, tmp_path)

    assert re.search(r"^The picture shows a cat.*\nby embedded\nembedded \['cat'\] 0\n\[\]$", said, re.MULTILINE), said


async def test_the_command_of_the_errors_page_is_refused_by_name(shell):
    (command,) = commands("docs/errors.md")

    code, said = await shell(command)

    assert code == 1
    assert "UNSUPPORTED_BY_MODEL" in said
    assert "dragon" in said


async def test_the_command_of_the_metrics_page_finds_nothing_wrong(shell):
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed")
    (command,) = commands("docs/metrics.md")

    assert await shell(command) == (0, "")
