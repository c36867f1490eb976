from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from gateway.usage import Usage

COUNTS = st.integers(min_value=0, max_value=2_000_000)


@given(COUNTS, COUNTS, COUNTS, COUNTS, COUNTS)
def test_the_buckets_add_up_to_what_the_provider_bills(total_in, total_out, image, cached, reasoning):
    usage = Usage.billed(input_total=total_in, output_total=total_out, image=image, cached=cached, reasoning=reasoning)

    assert (usage.input_total, usage.output_total) == (total_in, total_out)
    assert min(usage.input_text, usage.input_image, usage.cached_input, usage.output, usage.reasoning) >= 0


def test_cached_and_reasoning_tokens_are_taken_out_of_their_totals():
    usage = Usage.billed(input_total=1400, output_total=138, image=1229, cached=100, reasoning=38)

    assert usage == Usage(input_text=71, input_image=1229, cached_input=100, output=100, reasoning=38)


@pytest.mark.parametrize("bucket", ["input_text", "input_image", "cached_input", "output", "reasoning"])
def test_usages_add_bucket_by_bucket(bucket):
    assert Usage(**{bucket: 2}) + Usage(**{bucket: 3}) == Usage(**{bucket: 5})
