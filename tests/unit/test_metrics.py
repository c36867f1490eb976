from __future__ import annotations

from prometheus_client import CollectorRegistry, generate_latest

from gateway.domain import Outcome, ServiceTier
from gateway.metrics import Metrics
from gateway.usage import Usage


def test_a_server_that_names_its_model_anew_with_every_answer_does_not_fill_the_metrics():
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    for name in ("m" * 100_000, *(f"served-{i}" for i in range(1000))):
        metrics.attempt(
            rpc="Caption",
            model="m",
            provider="openai",
            response_model=name,
            outcome=Outcome.OK,
            reason="",
            seconds=0.1,
            usage=Usage(output=1),
            tier=ServiceTier.STANDARD,
            cost_nano_usd=1,
            time_to_first_token_s=None,
        )

    counts = {
        sample.labels["gen_ai_response_model"]: sample.value
        for family in registry.collect()
        for sample in family.samples
        if sample.name == "gen_ai_server_request_duration_seconds_count"
    }
    assert counts == {**{f"served-{i}": 1 for i in range(16)}, "_OTHER": 985}
    assert len(generate_latest(registry)) < 200_000
