from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry

from gateway.domain import Attempt, Outcome, Trace
from gateway.metrics import Metrics
from gateway.server import access
from gateway.server.access import Record


def test_what_the_caller_the_queue_and_the_models_took_is_not_the_gateways():
    registry = CollectorRegistry()
    record = Record("OCR", "r", 100.0, Trace(queue_s=1.0, image_s=0.5, upstream_s=4.0), body_s=2.0)
    access.ended(record, Metrics(registry), code="OK", reason="", now=107.75)
    overhead = registry.get_sample_value("vision_gateway_overhead_seconds_sum", {"rpc": "OCR"})
    total = registry.get_sample_value("vision_gateway_request_duration_seconds_sum", {"rpc": "OCR"})
    assert (total, overhead) == (7.75, 0.25)


def test_a_failed_call_counts_for_no_overhead():
    registry = CollectorRegistry()
    access.ended(Record("OCR", "r", 0.0, Trace()), Metrics(registry), code="INTERNAL", reason="INTERNAL", now=1.0)
    assert registry.get_sample_value("vision_gateway_overhead_seconds_count", {"rpc": "OCR"}) is None


@pytest.mark.parametrize(
    ("outcomes", "model"),
    [([], ""), ([Outcome.FAILED, Outcome.SKIPPED], "0"), ([Outcome.SKIPPED, Outcome.FAILED, Outcome.OK], "2")],
    ids=["none asked", "skipped last", "answered"],
)
def test_the_model_is_the_one_that_was_asked_last(outcomes, model):
    attempts = [Attempt(str(index), outcome) for index, outcome in enumerate(outcomes)]
    assert Record("OCR", "r", 0.0, Trace(attempts=attempts)).model == model
