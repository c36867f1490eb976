"""Measures what streams cost: time to the first token, CPU time a delta, and many at once.

    python -m tests.bench.streams [--calls 40] [--rounds 3] [--streams 500] [--gemma4]

The upstream is a toy that speaks Triton's protocol from a process of its own and says numbers at a given pace; with
`--gemma4`, a real Triton with Gemma 4's own classes on a tiny random checkpoint as well. The very request that the
gateway would send goes straight to the upstream and, as a call, through the gateway, in turns. A run counts only if
every delta came, in order.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import statistics
import tempfile
import time
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

import grpc
import uvloop
from PIL import Image
from tritonclient.grpc import service_pb2

from gateway import profiles
from gateway.backends._triton_wire import WIRES
from gateway.domain import ImageDetail, Prompt, SentImage
from gateway.tritonserver import TritonUnavailable
from tests.bench.gateway_overhead import cpu_s, process, rss_mb
from visiongateway.v1 import call_pb2, image_pb2, vision_service_pb2 as pb, vision_service_pb2_grpc

# An image of so many pixels fits the model at this detail, and is sent as it is.
PLAN = profiles.load("gemma4").plan(384, 384, ImageDetail.LOW, None)
_FAST = "say 20 words, the first after 30 ms, then one every 5 ms"
TOKENS = 24
_LARGE = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]


def picture():
    out = io.BytesIO()
    Image.new("RGB", (PLAN.width_px, PLAN.height_px), "teal").save(out, "JPEG")
    return out.getvalue()


def numbers(question):
    return " ".join(map(str, range(int(question.split()[1]))))


def straight(channel, question, image):
    """A call to the upstream that gives the seconds to its first token."""
    sent = SentImage(image, "image/jpeg", PLAN)
    prompt = Prompt(rpc="Prompt", user=question, max_output_tokens=TOKENS, top_k=1)
    request = WIRES["v1"].request(prompt, [sent], model="gemma4", version="", timeout_s=30, streaming=True)
    infer = channel.unary_stream(
        "/inference.GRPCInferenceService/ModelStreamInfer",
        request_serializer=service_pb2.ModelInferRequest.SerializeToString,
        response_deserializer=service_pb2.ModelStreamInferResponse.FromString,
    )

    async def call():
        started, first = time.perf_counter(), None
        async for reply in infer(request, timeout=30):
            outputs = reply.infer_response.outputs
            raw = dict(zip((each.name for each in outputs), reply.infer_response.raw_output_contents, strict=True))
            if first is None and raw.get("text_output", b"")[4:].strip():
                first = time.perf_counter() - started
        return first

    return call


def through(channel, model, question, image, *, check=True):
    """A call through the gateway that gives the seconds to its first delta, and how many deltas there were."""
    stub = vision_service_pb2_grpc.VisionServiceStub(channel)
    options = call_pb2.CallOptions(
        model=model, max_output_tokens=TOKENS, temperature=0, image_detail=call_pb2.IMAGE_DETAIL_LOW
    )
    request = pb.StreamPromptRequest(image=image_pb2.Image(data=image), prompt=question, options=options)

    async def call():
        started, first, deltas, answer = time.perf_counter(), None, [], None
        async for message in stub.StreamPrompt(request, timeout=120):
            if first is None:
                first = time.perf_counter() - started
            if message.HasField("answer"):
                answer = message.answer.text
            else:
                deltas.append(message.delta)
        text = "".join(deltas)
        assert text == answer
        assert not check or text == numbers(question)
        return first, len(deltas)

    return call


async def first_token(name, direct, gateway, calls, rounds):
    for _ in range(5):
        await direct()
        await gateway()
    own, seen = [], []
    for _ in range(calls * rounds):
        own.append(await direct() * 1000)
        seen.append((await gateway())[0] * 1000)
    added = statistics.median(seen) - statistics.median(own)
    p95 = statistics.quantiles(seen, n=20)[18] - statistics.quantiles(own, n=20)[18]
    print(f"{name:<34}{statistics.median(own):>10.2f} ms{added:>10.2f} ms{p95:>10.2f} ms")


async def at_once(pid, channel, model, question, image, count):
    """A row for *count* streams that begin together."""
    call = through(channel, model, question, image)
    before, started = cpu_s(pid), time.perf_counter()
    ended = await asyncio.gather(*(call() for _ in range(count)))
    seconds, cpu = time.perf_counter() - started, cpu_s(pid) - before
    words, messages = count * int(question.split()[1]), sum(deltas for _, deltas in ended)
    cost = cpu / words * 1000
    print(
        f"{count:>5} {model:<7}{question.partition(', ')[2]:<42}{words:>9}{messages:>9}{seconds:>8.1f} s"
        f"{words / seconds:>8.0f}/s{cost:>8.3f} ms{rss_mb(pid):>6.0f} MB"
    )


@contextmanager
def tiny_gemma4():
    """A real Triton that serves the tests' tiny checkpoint of Gemma 4."""
    from tests.fixtures.gemma4 import serving  # noqa: PLC0415  needs torch

    with tempfile.TemporaryDirectory() as folder, serving(Path(folder)) as served:
        yield served.triton.grpc_address


async def main(calls, rounds, streams, gemma4):
    """Prints the tables."""
    async with AsyncExitStack() as stack:
        _, port = stack.enter_context(process("tests.bench.upstreams", "triton"))
        addresses = {"toy": f"127.0.0.1:{port}"}
        if gemma4:
            try:
                addresses["tiny"] = stack.enter_context(tiny_gemma4())
            except TritonUnavailable as error:
                print(error)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        settings = folder / "gateway.toml"
        models = "".join(
            f'[models.{name}]\nkind = "triton"\naddress = "{address}"\nprice = "free"\nmax_inflight = 2000\n'
            for name, address in addresses.items()
        )
        settings.write_text(
            '[server]\ngrpc_address = "127.0.0.1:0"\nhttp_address = "127.0.0.1:0"\nlog_level = "WARNING"\n'
            "max_inflight = 2000\n"
            f'[ledger]\nurl = "sqlite:///{folder}/ledger.db"\n{models}'
            f'[models.fake]\nkind = "fake"\nprofile = "gemma4"\nprice = "free"\nmax_inflight = 2000\n'
            f'answer = "{numbers("say 100")}"\n'
        )
        gateway, address = stack.enter_context(process("tests.bench.gateway_process", str(settings)))
        channels = {
            name: await stack.enter_async_context(grpc.aio.insecure_channel(where, _LARGE))
            for name, where in {**addresses, "gateway": address}.items()
        }
        image = picture()
        print("time to first token                  upstream p50   added p50   added p95")
        for name, question, check in (("toy", _FAST, True), ("tiny", "What is it?", False)):
            if name in addresses:
                direct = straight(channels[name], question, image)
                gated = through(channels["gateway"], name, question, image, check=check)
                await first_token(name, direct, gated, calls, rounds)
        fake = through(channels["gateway"], "fake", "say 100", image, check=False)

        async def nothing():
            return 0.0

        await first_token("fake (in the gateway's own process)", nothing, fake, calls, rounds)
        print(f"\n{'streams, model, pace':<55}   words messages      time   words/s  CPU/word      RSS")
        for count, question in (
            (1, "say 1000 words, the first after 0 ms, then one every 5 ms"),
            (100, "say 200 words, the first after 0 ms, then one every 100 ms"),
            (streams, "say 200 words, the first after 0 ms, then one every 200 ms"),
            (streams, "say 200 words, the first after 0 ms, then one every 0 ms"),
        ):
            await at_once(gateway.pid, channels["gateway"], "toy", question, image, count)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--streams", type=int, default=500)
    parser.add_argument("--gemma4", action="store_true")
    uvloop.run(main(**vars(parser.parse_args())))
