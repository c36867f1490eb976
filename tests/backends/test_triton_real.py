"""Against a real Triton that serves the embedded CPU model."""

from __future__ import annotations

import asyncio
import io
import json
import os
import signal
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio
from PIL import Image, ImageDraw

from gateway.backends.triton import Options, connect
from gateway.domain import ImagePlan, Prompt, SentImage
from gateway.errors import BackendUnavailable, InvalidImage, UnsupportedByModel
from gateway.tritonserver import TritonUnavailable, embedded_triton
from gateway.usage import Usage

pytestmark = pytest.mark.asyncio(loop_scope="module")


def asks(**query):
    return Prompt(rpc=query["rpc"], user=json.dumps(query), max_output_tokens=256, request_id="real-1")


READ = asks(rpc="OCR", with_regions=False, languages=[])


@pytest.fixture(scope="module")
def invoice():
    picture = Image.new("RGB", (640, 480), "white")
    ImageDraw.Draw(picture).text((50, 50), "INVOICE 1234", fill="black", font_size=48)
    return written_as_png(picture)


@pytest.fixture(scope="module")
def book_page():
    """A page that takes the model seconds to read."""
    picture = Image.new("RGB", (1400, 2000), "white")
    for row in range(60):
        ImageDraw.Draw(picture).text((40, 20 + 32 * row), "The quick brown fox. " * 6, fill="black", font_size=20)
    return written_as_png(picture)


def written_as_png(picture):
    written = io.BytesIO()
    picture.save(written, "PNG")
    return SentImage(written.getvalue(), "image/png", ImagePlan(*picture.size, token_count=0))


@asynccontextmanager
async def served():
    """A Triton, what it logs, and the backend that asks it."""
    lines = []
    try:
        async with (
            embedded_triton(log=lines.append) as server,
            connect(Options(address=server.grpc_address, model="embedded")) as backend,
        ):
            yield server, backend, lines
    except TritonUnavailable as error:
        pytest.skip(f"Triton cannot run here: {error}")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def real():
    async with served() as parts:
        yield parts


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def doomed():
    """A Triton that its tests kill; the one that kills the server comes last."""
    async with served() as parts:
        yield parts


async def test_the_embedded_model_keeps_the_contract_and_reads(real, invoice):
    _, backend, _ = real

    assert await backend.ready()
    answer = await backend.complete(READ, (invoice,), timeout_s=60)

    assert [line["text"] for line in json.loads(answer.text)["lines"]] == ["INVOICE 1234"]
    assert (answer.usage, answer.estimated, answer.provider_model) == (Usage(), False, "embedded/1")


async def test_what_the_model_says_is_no_query_is_unsupported(real, invoice):
    _, backend, _ = real

    with pytest.raises(UnsupportedByModel):
        await backend.complete(Prompt(rpc="OCR", user="no JSON", max_output_tokens=16), (invoice,), timeout_s=60)


async def test_what_the_model_says_is_no_image_is_the_images_fault(real):
    _, backend, _ = real
    broken = SentImage(b"no image at all", "image/png", ImagePlan(1, 1, 0))

    with pytest.raises(InvalidImage) as caught:
        await backend.complete(READ, (broken,), timeout_s=60)

    assert caught.value.limit == "decode"


async def test_cancelled_calls_end_in_the_model(real, invoice):
    _, backend, lines = real
    # More than the model works on at once, so that some are still to be done whenever the cancel comes.
    calls = [asyncio.create_task(backend.complete(READ, (invoice,), timeout_s=60)) for _ in range(16)]
    await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)

    for call in calls:
        call.cancel()

    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    given_up = sum(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes)
    # A few may have been answered just as they were given up.
    wanted = given_up // 2
    assert wanted > 0
    async with asyncio.timeout(10):
        while sum("a request was cancelled" in line for line in lines) < wanted:  # noqa: ASYNC110  a log tells nobody
            await asyncio.sleep(0.02)


async def test_a_model_process_that_was_killed_fails_calls_and_is_not_ready(doomed, invoice):
    server, backend, _ = doomed
    assert await backend.ready()
    os.kill(stub_of(server.pid), signal.SIGKILL)

    with pytest.raises(BackendUnavailable):
        await backend.complete(READ, (invoice,), timeout_s=30)

    assert not await backend.ready()


async def test_a_triton_that_was_killed_fails_calls_at_once(doomed, invoice):
    server, backend, _ = doomed
    os.kill(server.pid, signal.SIGKILL)

    # Were the deadline waited for, the test's own time limit would end it.
    with pytest.raises(BackendUnavailable):
        await backend.complete(READ, (invoice,), timeout_s=600)

    assert not await backend.ready()


def stub_of(pid):
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    (stub,) = [child for child in children if b"python_backend_stub" in Path(f"/proc/{child}/cmdline").read_bytes()]
    return int(stub)
