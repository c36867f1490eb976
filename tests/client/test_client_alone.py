"""The client is installed and works with its own three requirements and nothing of the server's."""

from __future__ import annotations

import re
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOCK = ROOT / "requirements" / "development.lock"
# What `[project] dependencies` names, and what these need themselves.
CLOSURE = ("googleapis-common-protos", "grpcio", "protobuf", "typing-extensions")
CALL = """
import importlib.util, sys, visiongateway
assert importlib.util.find_spec("pydantic") is None
with visiongateway.VisionClient(sys.argv[1]) as client:
    print(client.caption(b"image").text)
    try:
        client.ocr(b"image")
    except visiongateway.Unsupported as error:
        print(error)
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """The interpreter of an environment that has the built wheel and the client's requirements, hashes checked."""
    folder = tmp_path_factory.mktemp("client")
    locked = re.split(r"\n(?=\S)", LOCK.read_text())
    wanted = [entry for entry in locked if entry.split("==")[0] in CLOSURE]
    assert len(wanted) == len(CLOSURE)
    requirements = folder / "requirements.txt"
    requirements.write_text("\n".join(wanted))
    venv.create(folder / "env", with_pip=False)
    python = folder / "env" / "bin" / "python"

    def run(*command: str | Path) -> None:
        subprocess.run([sys.executable, "-m", *command], check=True, cwd=ROOT)

    run("hatchling", "build", "-t", "wheel", "-d", folder)
    (wheel,) = folder.glob("*.whl")
    run("pip", "--python", python, "install", "-q", "--no-deps", "--require-hashes", "-r", requirements)
    run("pip", "--python", python, "install", "-q", "--no-deps", wheel)
    run("pip", "--python", python, "check")
    return python


def test_the_client_calls_and_fails_properly_without_the_servers_requirements(python, scripted_gateway):
    import grpc  # noqa: PLC0415

    from tests.fixtures.scripted_gateway import Failure  # noqa: PLC0415
    from visiongateway.v1 import vision_service_pb2 as pb  # noqa: PLC0415

    scripted_gateway.script("Caption", pb.CaptionResponse(text="a cat"))
    scripted_gateway.script("OCR", Failure(grpc.StatusCode.FAILED_PRECONDITION, "No.", "UNSUPPORTED_BY_MODEL"))

    run = subprocess.run(
        [python, "-I", "-c", CALL, scripted_gateway.address], check=True, capture_output=True, text=True
    )

    assert run.stdout == "a cat\nUNSUPPORTED_BY_MODEL: No.\n"
