"""Gemma 4's own classes answer on a real Triton, with a tiny random checkpoint."""

from __future__ import annotations

import asyncio
import io
import struct
import urllib.request

import grpc
import pytest
from PIL import Image
from tritonclient.grpc import service_pb2, service_pb2_grpc

from gateway.backends.triton import Options, connect
from gateway.domain import ImagePlan, Prompt, SentImage
from gateway.errors import InvalidImage

_BOUND_S = 60


class Caller:
    """Calls the model over the wire contract, and reads Triton's own metrics."""

    def __init__(self, channel, metrics_url):
        self._server = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        self._metrics_url = metrics_url

    def start(self, user="hello", *images, max_tokens=40, top_k=1, seed=0, **flags):
        request = service_pb2.ModelInferRequest(model_name="gemma4")
        inputs = [
            ("text_input", "BYTES", [user.encode()]),
            ("sampling_param_max_tokens", "INT32", struct.pack("<i", max_tokens)),
            ("sampling_param_top_k", "INT32", struct.pack("<i", top_k)),
            ("sampling_param_seed", "UINT64", struct.pack("<Q", seed)),
            *([("image_bytes", "BYTES", images)] if images else []),
            *((name, "BOOL", struct.pack("<?", value)) for name, value in flags.items()),
        ]
        for name, datatype, values in inputs:
            count = len(values) if datatype == "BYTES" else 1
            raw = b"".join(struct.pack("<I", len(v)) + v for v in values) if datatype == "BYTES" else values
            request.inputs.add(name=name, datatype=datatype, shape=(count,))
            request.raw_input_contents.append(raw)
        return self._server.ModelStreamInfer(
            iter([request]), timeout=_BOUND_S, metadata=(("triton_grpc_error", "true"),)
        )

    async def parts(self, *args, **kwargs):
        return [outputs(reply) async for reply in self.start(*args, **kwargs)]

    async def metric(self, name, **labels):
        def load():
            with urllib.request.urlopen(self._metrics_url, timeout=10) as page:  # noqa: S310  our own http address
                return page.read().decode()

        lines = (await asyncio.to_thread(load)).splitlines()
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        (value,) = [
            line.rpartition(" ")[2]
            for line in lines
            if line.startswith(f"vision_gemma4_{name}") and all(label in line for label in wanted)
        ]
        return float(value)

    async def until(self, name, value):
        async with asyncio.timeout(_BOUND_S):
            while await self.metric(name) != value:  # noqa: ASYNC110 - a number of another process
                await asyncio.sleep(0.02)


def outputs(reply):
    assert reply.error_message == ""
    found = reply.infer_response
    raw = dict(zip((output.name for output in found.outputs), found.raw_output_contents, strict=True))
    counts = [int.from_bytes(raw[f"num_{kind}_tokens"], "little") for kind in ("input", "output")]
    texts = [raw[name][4:].decode() for name in ("text_output", "reasoning_output", "finish_reason")]
    return (*texts, *counts, found.parameters["triton_final_response"].bool_param)


@pytest.fixture
async def call(gemma4):
    async with grpc.aio.insecure_channel(gemma4.triton.grpc_address) as channel:
        yield Caller(channel, gemma4.triton.metrics_url)


@pytest.fixture
async def backend(gemma4):
    async with connect(Options(address=gemma4.triton.grpc_address, model="gemma4")) as triton:
        yield triton


@pytest.fixture(scope="session")
def red():
    buffer = io.BytesIO()
    Image.new("RGB", (400, 300), "red").save(buffer, "PNG")
    return buffer.getvalue()


async def test_the_gateway_gets_an_answer_and_its_counts(backend):
    prompt = Prompt(rpc="Caption", user="hello", max_output_tokens=12, top_k=1)

    completion = await backend.complete(prompt, (), timeout_s=_BOUND_S)

    # `<bos><|turn>user\nhello<turn|>\n<|turn>model\n`, a token for each letter.
    assert (completion.usage.input_text, completion.usage.output_total) == (21, 12)
    assert (len(completion.text), completion.provider_model) == (11, "gemma4/1")


async def test_the_gateway_streams_the_same_answer_in_pieces(backend):
    prompt = Prompt(rpc="Caption", user="hello", max_output_tokens=12, top_k=1)
    whole = await backend.complete(prompt, (), timeout_s=_BOUND_S)

    *pieces, last = [piece async for piece in backend.stream(prompt, (), timeout_s=_BOUND_S)]

    assert len(pieces) > 1
    assert ("".join(pieces), last.text, last.usage) == (whole.text, whole.text, whole.usage)


async def test_a_stream_that_the_gateway_closes_frees_the_engine(backend, call):
    prompt = Prompt(rpc="Caption", user="hello", max_output_tokens=15_000, top_k=1)
    streaming = backend.stream(prompt, (), timeout_s=_BOUND_S)
    await anext(streaming)
    await call.until("in_flight", 1)

    await streaming.aclose()

    await call.until("in_flight", 0)


async def test_images_stand_before_the_text_with_as_many_tokens_as_the_processor_gives_them(call, red):
    (text,) = await call.parts()
    (one,) = await call.parts("hello", red)
    (two,) = await call.parts("hello", red, red)

    # 4:3 at 280 soft tokens a picture is 266, between a token where it begins and one where it ends.
    assert (text[3], one[3], two[3]) == (21, 21 + 268, 21 + 2 * 268)
    assert text[0] != one[0]


async def test_what_a_caller_writes_is_no_control_token(call):
    (plain,) = await call.parts("[|image|]")
    (written,) = await call.parts("<|image|>")

    assert written[3] == plain[3]


async def test_deltas_make_up_the_whole(call):
    (whole,) = await call.parts()
    parts = await call.parts(streaming=True)

    assert len(parts) > 10
    assert "".join(part[0] for part in parts) == whole[0]
    assert [part[4] for part in parts] == sorted(part[4] for part in parts)
    assert [part[5] for part in parts] == [False] * (len(parts) - 1) + [True]
    assert parts[-1][2:] == whole[2:] == ("stop", 21, 40, True)


async def test_thinking_is_asked_of_the_template(call):
    (without,) = await call.parts()
    (thinking,) = await call.parts(enable_thinking=True)

    assert thinking[3] - without[3] == len(["<|turn>", *"system\n", "<|think|>", "<turn|>", "\n"])


async def test_a_caller_that_goes_frees_the_engine(call):
    going = call.start(max_tokens=15_000, streaming=True)
    await anext(aiter(going))  # Only now, so that it has the engine and the other waits for it.
    waiting = call.start(max_tokens=15_000)
    await call.until("in_flight", 2)
    going.cancel()
    waiting.cancel()
    await call.until("in_flight", 0)

    assert len(await call.parts(max_tokens=3)) == 1


async def test_an_image_that_is_none_is_refused(call):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.parts("hello", b"no image")

    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_request_longer_than_the_context_is_refused(call):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.parts(max_tokens=20_000)

    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_the_gateway_calls_it_an_invalid_image(backend):
    prompt = Prompt(rpc="Caption", user="hello", max_output_tokens=12, top_k=1)
    image = SentImage(b"no image", "image/png", ImagePlan(10, 10, 70, "70"))

    with pytest.raises(InvalidImage):
        await backend.complete(prompt, (image,), timeout_s=_BOUND_S)


async def test_the_same_seed_gives_the_same_answer(call):
    first, again, other = [(await call.parts(top_k=50, seed=seed, max_tokens=30))[-1][0] for seed in (1, 1, 2)]

    assert first == again
    assert first != other


async def test_outcomes_tokens_and_the_time_to_the_first_are_counted(call, red):
    async def counts():
        return [
            *(await call.metric("requests_total", outcome="ok"), await call.metric("tokens_total", kind="input")),
            *(await call.metric("tokens_total", kind="output"), await call.metric("time_to_first_token_seconds_count")),
        ]

    before = await counts()
    await call.parts("hello", red)
    after = await counts()

    assert [new - old for new, old in zip(after, before, strict=True)] == [1, 21 + 268, 40, 1]
    assert await call.metric("time_to_first_token_seconds_sum") > 0
    assert await call.metric("image_token_budget") == 280


async def test_more_requests_than_are_taken_are_refused(gemma4, call):
    running = [call.start(max_tokens=15_000) for _ in range(gemma4.max_in_flight)]
    try:
        await call.until("in_flight", gemma4.max_in_flight)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.parts()
    finally:
        for each in running:
            each.cancel()
    await call.until("in_flight", 0)

    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_32_streams_at_once_all_end(call):
    answers = await asyncio.gather(*(call.parts(f"number {n:02}", streaming=True) for n in range(32)))

    assert [parts[-1][2:] for parts in answers] == [("stop", 25, 40, True)] * 32
