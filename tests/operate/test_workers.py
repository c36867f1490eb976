"""Several workers behind one port, as a real Prometheus sees them and as signals reach them."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import cycle
from pathlib import Path

import grpc

from tests.fixtures.settings_file import as_toml, caption, script
from tests.fixtures.workers import until
from visiongateway.v1 import image_pb2, vision_service_pb2 as pb

SERVE = [str(Path(sys.executable).parent / "vision-gateway"), "serve", "--settings"]
CAPTION = caption()
NO_IMAGE = pb.CaptionRequest(image=image_pb2.Image(data=b"no image"))
LONG_S = 120
COUNTERS = ("requests_total", "cost_usd_total", "request_duration_seconds_bucket", "upstream_duration_seconds_sum")


def ended(call):
    try:
        call.result()
    except grpc.RpcError as exc:
        return exc.code().name
    return "OK"


def make_calls(workers, connections, each):
    """Makes *each* calls on so many connections at a time, one in four of which has no image; gives their codes."""
    with ExitStack() as stack:
        stubs = [workers.stub(stack) for _ in range(connections)]
        requests = cycle([CAPTION, CAPTION, NO_IMAGE, CAPTION])
        calls = [stub.Caption.future(next(requests), timeout=LONG_S) for _ in range(each) for stub in stubs]
        return Counter(map(ended, calls))


@contextmanager
def provider(left):
    """Stands in for OpenAI: says with each answer the next figure of *left*, which no mock of others can be told."""
    figures = iter(left)

    class Answers(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["content-length"]))
            said = b'{"output": [{"type": "message", "content": [{"type": "output_text", "text": "a cat"}]}]}'
            self.send_response(200)
            self.send_header("content-length", str(len(said)))
            self.send_header("x-ratelimit-limit-requests", "100")
            self.send_header("x-ratelimit-remaining-requests", str(next(figures)))
            self.end_headers()
            self.wfile.write(said)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/v1"
        server.shutdown()


async def counted(prometheus):
    """Waits until Prometheus has scraped anew; gives what it then has by code, and how often a counter fell."""
    since = time.time()
    async with asyncio.timeout(30):
        while not await prometheus.ask(f"timestamp(up) > {since}"):  # noqa: ASYNC110  seen from outside
            await asyncio.sleep(0.1)
    found = await prometheus.ask("sum by (code) (vision_gateway_requests_total)")
    fell = [await prometheus.ask(f"sum(resets(vision_gateway_{name}[10m]))") for name in COUNTERS]
    return Counter({labels["code"]: int(value) for labels, value in found}), sum(each[0][1] for each in fell)


async def test_counters_equal_the_calls_made_although_workers_were_killed(serve_workers, start_prometheus):
    workers = await asyncio.to_thread(serve_workers, 4, models={"scripted": script()})
    prometheus = await start_prometheus(vision_gateway=[workers.gateway.http_address], triton=[])
    made, counts = Counter(), []

    for _ in range(2):
        victims = sorted(workers.serving())[:2]
        made += await asyncio.to_thread(make_calls, workers, 16, 5)
        # Before anybody has looked at what they counted.
        await asyncio.to_thread(workers.kill, victims)
        counts.append((await counted(prometheus), +made))

    assert [found for found, _ in counts] == [(expected, 0.0) for _, expected in counts]
    assert made == {"OK": 120, "INVALID_ARGUMENT": 40}


def test_gauges_forget_the_workers_that_were_killed(serve_workers):
    workers = serve_workers(2, models={"slow": script(delay_s=100)})
    inflight = lambda: workers.gateway.samples("vision_gateway_inflight", "scope").get(("slow",), 0)  # noqa: E731  asked again and again
    with ExitStack() as stack:
        calls = [workers.stub(stack).Caption.future(CAPTION, timeout=LONG_S) for _ in range(8)]
        until(lambda: inflight() == 8)

        workers.kill(workers.serving())

        codes = set(map(ended, calls))
    assert (inflight(), codes) == (0, {"UNAVAILABLE"})


def test_what_is_left_at_a_provider_is_what_it_told_last_to_whichever_worker(serve_workers, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-test")
    # The last is neither the most nor the least, of either worker.
    left = [90, 10] * 6 + [50]
    with ExitStack() as stack:
        base_url = stack.enter_context(provider(left))
        workers = serve_workers(2, models={"gpt": {"kind": "openai", "base_url": base_url}})
        stubs = [workers.stub(stack) for _ in left]

        for stub in stubs:
            stub.Caption(CAPTION, timeout=LONG_S)

        told = {
            name: workers.gateway.samples(f"vision_gateway_upstream_ratelimit_{name}", "model", "kind")
            for name in ("remaining", "limit")
        }
    assert told == {"remaining": {("gpt", "requests"): 50.0}, "limit": {("gpt", "requests"): 100.0}}


def test_every_worker_takes_on_new_settings(serve_workers, tmp_path):
    workers = serve_workers(3, models={"one": script()}, server={"reload": "signal"})
    settings = next(tmp_path.glob("*/gateway.toml"))

    settings.write_text(settings.read_text().replace('"one"', '"two"'))
    workers.gateway.process.send_signal(signal.SIGHUP)
    until(lambda: workers.gateway.samples("vision_gateway_settings_reloads_total", "outcome").get(("applied",)) == 3.0)

    with ExitStack() as stack:
        answered = {workers.stub(stack).Caption(CAPTION, timeout=LONG_S).info.model for _ in range(12)}
    ready = workers.gateway.samples("vision_gateway_model_ready", "model")
    assert (answered, ready) == ({"two"}, {("two",): 1.0})


def test_calls_in_flight_at_every_worker_end_before_the_gateway_does(serve_workers):
    workers = serve_workers(2, models={"slow": script(delay_s=1)})
    with ExitStack() as stack:
        calls = [workers.stub(stack).Caption.future(CAPTION, timeout=LONG_S) for _ in range(12)]
        until(lambda: workers.gateway.samples("vision_gateway_inflight", "scope").get(("slow",)) == 12)

        code = workers.gateway.stop()

        assert (set(map(ended, calls)), code) == ({"OK"}, 0)


def test_workers_end_when_their_supervisor_is_killed(serve_workers):
    workers = serve_workers(2, models={"scripted": script()})
    pids = workers.serving()

    workers.gateway.process.kill()
    workers.gateway.process.wait()

    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))


def test_neither_one_gateway_nor_several_can_take_the_port_of_workers(serve_workers, tmp_path):
    workers = serve_workers(2, models={"scripted": script()})
    refused = []

    for count in (1, 2):
        path = tmp_path / "second.toml"
        server = {"grpc_address": workers.gateway.address, "http_address": "127.0.0.1:0", "workers": count}
        path.write_text(as_toml({"server": server, "models": {"scripted": script()}}))
        second = subprocess.run([*SERVE, path], capture_output=True, text=True, timeout=60, check=False)
        refused.append((second.returncode, f"cannot listen on {workers.gateway.address}" in second.stderr))

    assert refused == [(1, True), (1, True)]


def test_what_keeps_workers_from_starting_is_said_once_and_ends_the_gateway(tmp_path):
    path = tmp_path / "gateway.toml"
    server = {"grpc_address": "127.0.0.1:0", "http_address": "127.0.0.1:0", "workers": 4}
    path.write_text(as_toml({"server": server, "models": {"scripted": script(profile="nobody's")}}))

    started = subprocess.run([*SERVE, path], capture_output=True, text=True, timeout=60, check=False)

    assert started.returncode == 1
    assert started.stderr.count("nobody's") == 1
    assert "worker 0 ended with status 1 before it served" in started.stderr
