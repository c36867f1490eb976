"""Traces hold no call up: without a collector there are none, and what one that is away does not take is counted."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import threading

import pytest
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from structlog.testing import capture_logs

from gateway import tracing
from gateway.compose.tracing import _endpoint
from gateway.settings import TracingSettings
from gateway.tracing.otel import _Counted, _Queue
from tests.fixtures.running_gateway import gateways
from tests.tracing.test_traces import CALL, image, model, named, request
from visiongateway.v1 import vision_service_pb2 as pb

AWAY = "http://127.0.0.1:1"


def test_without_a_collector_nothing_of_it_is_imported():
    program = "import sys; from gateway import app; print([m for m in sys.modules if m.startswith('opentelemetry.')])"
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout

    assert said.strip() == "[]"


def test_without_a_collector_no_span_is_made():
    with tracing.call(None, "Caption", [("traceparent", "00-" + "a" * 32 + "-" + "b" * 16 + "-01")]) as call:
        assert (call, tracing.current(), tracing.exemplar()) == (None, None, None)
        assert tracing.span("image") is tracing.span("attempt")


@pytest.mark.parametrize(
    ("endpoint", "environment", "expected"),
    [
        (None, {}, ""),
        ("", {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4317"}, ""),
        (None, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4317"}, "http://c:4317"),
        (None, {"OTEL_EXPORTER_OTLP_ENDPOINT": "x", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://t:1"}, "http://t:1"),
        ("http://s:1", {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4317"}, "http://s:1/"),
        ("http://s:1", {"OTEL_SDK_DISABLED": "true"}, ""),
        (None, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4317", "OTEL_TRACES_EXPORTER": "none"}, ""),
        (None, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, ""),
    ],
)
def test_the_settings_go_before_the_environment_which_opentelemetry_shares(
    monkeypatch, endpoint, environment, expected
):
    for name in ("ENDPOINT", "TRACES_ENDPOINT", "PROTOCOL", "TRACES_PROTOCOL"):
        monkeypatch.delenv(f"OTEL_EXPORTER_OTLP_{name}", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    assert _endpoint(TracingSettings(endpoint=endpoint)) == expected


class StandInExporter(SpanExporter):
    """Stands in for a collector that takes its time, and then takes spans or does not."""

    def __init__(self, *results):
        self.results = list(results)
        self.may_end = threading.Event()

    def export(self, spans):
        self.may_end.wait(20)
        return self.results.pop(0)


def test_a_collector_that_is_away_is_one_line_of_the_log_and_so_is_its_return():
    failure, success = SpanExportResult.FAILURE, SpanExportResult.SUCCESS
    inner, lost = StandInExporter(failure, failure, success, success), []
    inner.may_end.set()
    counted = _Counted(inner, lambda count, reason: lost.append((count, reason)))
    with capture_logs() as logs:
        for _ in range(4):
            counted.export(["span", "span"])

    assert [entry["event"] for entry in logs] == ["traces_not_exported", "traces_exported_again"]
    assert lost == [(2, "export_failed"), (2, "export_failed")]


def test_spans_beyond_those_that_may_wait_are_dropped_and_counted():
    inner, lost = StandInExporter(*[SpanExportResult.SUCCESS] * 9), []
    exporter = _Counted(inner, lambda count, reason: lost.append((count, reason)))
    queue = _Queue(exporter, 4, exporter._dropped)
    spans = [_Span() for _ in range(7)]
    for span in spans:
        queue.on_end(span)
    inner.may_end.set()
    queue.shutdown()

    assert (lost, exporter.done) == ([(1, "queue_full")] * 3, 4)


class _Span:
    """Stands in for a span that is kept."""

    class Context:
        class trace_flags:  # noqa: N801  OpenTelemetry's name
            sampled = True

    context = Context()


async def test_calls_go_on_while_the_collector_is_away_and_the_end_does_not_wait_for_it(
    start_gateway, monkeypatch, capfd
):
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "10")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.05")
    gateway = await start_gateway(models={"gemma": model()}, tracing={"endpoint": AWAY}, images={"workers": 1})
    with capture_logs() as logs:
        async with asyncio.timeout(30):
            lost = 0.0
            while not lost:
                response = await gateway.stub.Caption(request())
                assert response.text == "A cat."
                _, text = await gateway.get("/metrics")
                lost = _value(text, "vision_gateway_spans_dropped_total{")

    assert [entry["event"] for entry in logs if entry["event"] != "call"] == ["traces_not_exported"]
    assert "Failed to export" not in capfd.readouterr().err


async def test_a_gateway_that_ends_has_sent_what_it_traced(traces, monkeypatch):
    # Longer than the test: what arrives was sent at the end.
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "600000")
    async with gateways() as start:
        gateway = await start(models={"gemma": model()}, tracing={"endpoint": traces.endpoint}, images={"workers": 1})
        await gateway.stub.Caption(request())
        assert traces.spans == []

    assert named(await traces.whole(CALL), CALL).attributes["rpc.response.status_code"] == "OK"


async def test_the_histograms_and_the_log_lead_to_the_trace(start_gateway, traces):
    gateway = await start_gateway(
        models={"gemma": model(time_to_first_token_s=0.01, delay_s=0.02)},
        tracing={"endpoint": traces.endpoint},
        images={"workers": 1},
    )
    with capture_logs() as logs:
        await gateway.stub.Caption(request())
        async for _ in gateway.stub.StreamCaption(pb.StreamCaptionRequest(image=image())):
            pass
    found = await _exemplars(gateway)
    lines = [entry["trace_id"] for entry in logs if entry["event"] == "call"]
    await traces.whole(CALL)

    assert {name: ids <= set(lines) for name, ids in found.items()} == {
        "vision_gateway_request_duration_seconds": True,
        "vision_gateway_overhead_seconds": True,
        "vision_gateway_upstream_duration_seconds": True,
        "gen_ai_server_request_duration_seconds": True,
        "gen_ai_server_time_to_first_token_seconds": True,
    }
    assert named(traces.spans, CALL).trace_id == lines[0]


async def test_calls_that_are_not_kept_are_no_exemplars_and_are_found_in_the_log(start_gateway, traces):
    gateway = await start_gateway(
        models={"gemma": model()}, tracing={"endpoint": traces.endpoint, "sample_ratio": 0.0}, images={"workers": 1}
    )
    with capture_logs() as logs:
        await gateway.stub.Caption(request(), metadata=(("traceparent", f"00-{'a' * 32}-{'b' * 16}-00"),))

    assert await _exemplars(gateway) == {}
    assert [entry["trace_id"] for entry in logs if entry["event"] == "call"] == ["a" * 32]


async def _exemplars(gateway):
    """The traces that each metric leads to, as a parser of OpenMetrics reads them."""
    host, port = gateway.addresses.http.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(
        f"GET /metrics HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n"
        "accept: application/openmetrics-text; version=1.0.0\r\n\r\n".encode()
    )
    _, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    await writer.wait_closed()
    found = {}
    for family in text_string_to_metric_families(body.decode()):
        for sample in family.samples:
            if sample.exemplar:
                found.setdefault(family.name, set()).add(sample.exemplar.labels["trace_id"])
    return found


def _value(text, start):
    return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(start))


@pytest.fixture(autouse=True)
def loggers_as_before():
    names = ("opentelemetry.exporter", "opentelemetry.sdk.trace.export", "opentelemetry.sdk._shared_internal")
    yield
    for name in names:
        logging.getLogger(name).setLevel(logging.NOTSET)
