"""Streams from a real Triton, with a stand-in for the model that keeps contract v1: it says four words and, asked to
talk on, never ends. What became of such a call it tells when it is asked `cancelled?`.
"""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import replace

import pytest

from gateway.backends.triton import Options, connect
from gateway.errors import BackendUnavailable
from gateway.tritonserver import TritonUnavailable
from gateway.usage import Usage
from tests.fixtures.kserve import CONTRACT
from tests.fixtures.triton import running

MODEL = """
import threading, time
import numpy as np
import triton_python_backend_utils as pb_utils

FINAL = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL
cancelled = threading.Event()

def part(text, reason, count):
    texts = [("text_output", text), ("reasoning_output", ""), ("finish_reason", reason)]
    counts = [("num_input_tokens", 300), ("num_output_tokens", count)]
    return pb_utils.InferenceResponse(
        [pb_utils.Tensor(name, np.asarray([value.encode()], dtype=np.object_)) for name, value in texts]
        + [pb_utils.Tensor(name, np.asarray([value], dtype=np.uint32)) for name, value in counts]
    )

class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            threading.Thread(target=self.answer, args=[request]).start()

    def answer(self, request):
        asked = pb_utils.get_input_tensor_by_name(request, "text_input").as_numpy()[0].decode()
        sender = request.get_response_sender()
        if asked == "cancelled?":
            sender.send(part("yes" if cancelled.wait(20) else "no", "stop", 1), flags=FINAL)
            return
        for count, word in enumerate(["a ", "cat ", "sits ", "here"], 1):
            sender.send(part(word, "", count))
        if asked == "fail":
            error = pb_utils.TritonError("it broke", pb_utils.TritonError.INTERNAL)
            sender.send(pb_utils.InferenceResponse([], error), flags=FINAL)
            return
        while asked == "talk on":
            if sender.is_cancelled():
                cancelled.set()
                sender.send(flags=FINAL)
                return
            time.sleep(0.02)
        sender.send(part("", "stop", 4), flags=FINAL)
"""
WORDS = ["a ", "cat ", "sits ", "here"]


def config():
    yield 'name: "gemma4" backend: "python" max_batch_size: 0 instance_group { kind: KIND_CPU }'
    yield "model_transaction_policy { decoupled: true }"
    for side in ("input", "output"):
        for tensor in CONTRACT[f"{side}s"]:
            datatype = {"BYTES": "STRING"}.get(tensor["datatype"], tensor["datatype"])
            optional = "optional: true" if tensor.get("optional") else ""
            yield f'{side} {{ name: "{tensor["name"]}" data_type: TYPE_{datatype} dims: {tensor["dims"]} {optional} }}'


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    repository = tmp_path_factory.mktemp("streams")
    (repository / "gemma4/1").mkdir(parents=True)
    (repository / "gemma4/1/model.py").write_text(MODEL)
    (repository / "gemma4/config.pbtxt").write_text("\n".join(config()))
    try:
        with running(repository=repository, models=("gemma4",)) as server:
            yield server.grpc_address
    except TritonUnavailable as error:
        pytest.skip(str(error))


async def gather(stream, pieces):
    async for piece in stream:
        pieces.append(piece)


@pytest.fixture
async def backend(address):
    async with connect(Options(address=address)) as opened:
        yield opened


async def test_a_real_triton_passes_on_each_piece_and_the_end(backend, prompt, images):
    *pieces, answer = [piece async for piece in backend.stream(prompt, images, timeout_s=10)]

    assert pieces == WORDS
    assert (answer.text, answer.usage) == ("a cat sits here", Usage(input_text=32, input_image=268, output=4))


async def test_a_failure_at_a_real_triton_comes_after_the_pieces_before_it(backend, prompt):
    pieces = []

    with pytest.raises(BackendUnavailable) as caught:
        await gather(backend.stream(replace(prompt, user="fail"), (), timeout_s=10), pieces)

    assert (pieces, caught.value.usage) == (WORDS, Usage(input_text=300, output=4))


async def test_a_model_at_a_real_triton_hears_that_its_stream_was_closed(backend, prompt):
    async with aclosing(backend.stream(replace(prompt, user="talk on"), (), timeout_s=60)) as stream:
        assert await anext(stream) == "a "

    assert (await backend.complete(replace(prompt, user="cancelled?"), (), timeout_s=30)).text == "yes"
