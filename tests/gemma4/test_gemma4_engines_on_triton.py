"""A real Triton loads the model with the engines of GPUs, whose packages are stand-ins.

The configuration is copied over config.pbtxt, since the gateway's launcher has no --model-config-name. Triton's Python
backend puts the version's folder on the interpreter's path, so the stand-ins lie there.
"""

from __future__ import annotations

import asyncio
import shutil
import urllib.request
from pathlib import Path

import pytest

from gateway.backends.triton import Options, connect
from gateway.domain import Completion, Prompt
from gateway.errors import BackendUnavailable
from gateway.tritonserver import TritonUnavailable
from tests.fixtures.gemma4 import save_checkpoint
from tests.fixtures.triton import running

_MODEL = Path(__file__).parents[2] / "triton_repo/gemma4"
_STANDINS = Path(__file__).parent / "standins"
_BOUND_S = 60
_PACKAGES = {"trtllm": "tensorrt_llm", "vllm": "vllm"}


@pytest.fixture(scope="module", params=sorted(_PACKAGES))
def served(request, tmp_path_factory):
    for package in ("torch", "transformers"):
        pytest.importorskip(package, reason=f"{package} makes the checkpoint: make setup-gemma4", exc_type=ImportError)
    engine = request.param
    folder = tmp_path_factory.mktemp(engine)
    save_checkpoint(folder / "checkpoint")
    model = folder / "repository/gemma4"
    shutil.copytree(_MODEL, model, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copyfile(model / f"configs/{engine}.pbtxt", model / "config.pbtxt")
    package = _PACKAGES[engine]
    shutil.copytree(_STANDINS / package, model / "1" / package, ignore=shutil.ignore_patterns("__pycache__"))
    options = model / f"1/model.{engine}.yaml"
    written = options.read_text()
    assert written.count("/models/gemma-4-26B-A4B-it") == 1
    options.write_text(written.replace("/models/gemma-4-26B-A4B-it", str(folder / "checkpoint")))
    try:
        with running(repository=folder / "repository", models=("gemma4",)) as triton:
            yield triton, folder / "aborted"
    except TritonUnavailable as error:
        pytest.skip(str(error))


@pytest.fixture
async def backend(served):
    async with connect(Options(address=served[0].grpc_address, model="gemma4")) as triton:
        yield triton


def _prompt(user="hello"):
    return Prompt(rpc="Caption", user=user, max_output_tokens=12)


async def test_an_answer_comes_without_its_thoughts_and_with_its_counts(backend):
    completion = await backend.complete(_prompt(), (), timeout_s=_BOUND_S)

    read = len("<bos><|turn>user\nhello<turn|>\n<|turn>model\n")
    assert (completion.text, completion.usage.input_text, completion.usage.output_total) == ("A cat sits.", read, 5)


async def test_an_answer_streams_in_pieces(backend):
    *pieces, whole = [piece async for piece in backend.stream(_prompt(), (), timeout_s=_BOUND_S)]

    assert pieces == ["A c", "at sits."]
    assert isinstance(whole, Completion)
    assert whole.text == "A cat sits."


async def test_a_failure_of_the_engine_is_an_unavailable_backend(backend):
    with pytest.raises(BackendUnavailable):
        await backend.complete(_prompt("fail"), (), timeout_s=_BOUND_S)


async def test_cancelling_aborts_the_job_in_the_engine(served, backend):
    triton, aborted = served
    aborted.unlink(missing_ok=True)
    call = asyncio.create_task(backend.complete(_prompt("wait"), (), timeout_s=_BOUND_S))
    await _until(triton, 1)

    call.cancel()
    await _until(triton, 0)

    assert aborted.exists()


async def _in_flight(triton):
    def load():
        with urllib.request.urlopen(triton.metrics_url, timeout=10) as page:  # noqa: S310  our own http address
            return page.read().decode()

    lines = (await asyncio.to_thread(load)).splitlines()
    (value,) = [line.rpartition(" ")[2] for line in lines if line.startswith("vision_gemma4_in_flight")]
    return float(value)


async def _until(triton, in_flight):
    async with asyncio.timeout(_BOUND_S):
        while await _in_flight(triton) != in_flight:  # noqa: ASYNC110 - a number of another process
            await asyncio.sleep(0.02)
