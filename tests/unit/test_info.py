"""What is told of who answered and what it cost, where a call had several tasks at once."""

from __future__ import annotations

from hypothesis import given, strategies as st

from gateway import info
from visiongateway.v1 import call_pb2

COUNTS = st.integers(0, 10**12)


@st.composite
def infos(draw):
    attempts = [call_pb2.Attempt(model="m", cost_nano_usd=cost) for cost in draw(st.lists(COUNTS, max_size=4))]
    usage = {field.name: draw(COUNTS) for field in call_pb2.Usage.DESCRIPTOR.fields}
    return call_pb2.CallInfo(
        model="m",
        attempts=attempts,
        usage=call_pb2.Usage(**usage),
        cost_nano_usd=sum(attempt.cost_nano_usd for attempt in attempts),
    )


@given(infos(), st.integers(2, 16))
def test_shares_add_up_to_the_whole_and_differ_by_one_at_most(whole, count):
    shares = info.shares(whole, count)

    assert sum(share.cost_nano_usd for share in shares) == whole.cost_nano_usd
    for field in whole.usage.DESCRIPTOR.fields:
        of_usage = [getattr(share.usage, field.name) for share in shares]
        assert (sum(of_usage), max(of_usage) - min(of_usage) <= 1) == (getattr(whole.usage, field.name), True)
    assert all(share.cost_nano_usd == sum(attempt.cost_nano_usd for attempt in share.attempts) for share in shares)


@given(infos(), infos())
def test_what_was_spent_earlier_is_added_and_stands_first(later, earlier):
    both = call_pb2.CallInfo()
    both.CopyFrom(later)

    info.add(both, earlier)

    assert both.cost_nano_usd == later.cost_nano_usd + earlier.cost_nano_usd
    assert list(both.attempts) == [*earlier.attempts, *later.attempts]
    assert both.usage.output_token_count == later.usage.output_token_count + earlier.usage.output_token_count


def test_what_was_counted_earlier_by_estimate_makes_the_whole_an_estimate():
    both = call_pb2.CallInfo(cost_basis=call_pb2.COST_BASIS_BILLED)

    info.add(both, call_pb2.CallInfo(cost_basis=call_pb2.COST_BASIS_ESTIMATED))

    assert both.cost_basis == call_pb2.COST_BASIS_ESTIMATED
