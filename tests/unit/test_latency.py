from __future__ import annotations

from gateway.latency import Latency


def learned(*seconds):
    latency = Latency()
    for each in seconds:
        latency.observe("Caption", "m", each)
    return latency


def test_nothing_is_expected_of_a_model_before_five_answers():
    latency = learned(1.0, 2.0, 3.0, 4.0)

    assert (latency.expected_s("Caption", "m"), latency.p95_s("Caption", "m")) == (None, None)


def test_the_median_is_expected_and_the_nearest_rank_is_the_95th_percentile():
    latency = learned(*(float(n) for n in range(20, 0, -1)))

    assert (latency.expected_s("Caption", "m"), latency.p95_s("Caption", "m")) == (10.5, 19.0)


def test_only_the_last_64_answers_count():
    latency = learned(*[100.0] * 64, *[1.0] * 64)

    assert (latency.expected_s("Caption", "m"), latency.p95_s("Caption", "m")) == (1.0, 1.0)


def test_rpcs_and_models_are_told_apart():
    latency = learned(*[1.0] * 5)

    assert (latency.expected_s("OCR", "m"), latency.expected_s("Caption", "other")) == (None, None)
