from __future__ import annotations

from decimal import Decimal

import genai_prices
import pytest
from hypothesis import given, strategies as st

from gateway.domain import ServiceTier
from gateway.pricing import FREE, Price, Rates, UnknownPriceError, listed, per_gpu_hour, per_million
from gateway.usage import Usage

GPT55 = listed("gpt-5.5", "openai")
TIERS = {ServiceTier.STANDARD: "default", ServiceTier.FLEX: "flex", ServiceTier.PRIORITY: "priority"}


def test_a_gpu_hour_is_shared_among_the_tokens_of_that_hour_and_rounded_up():
    price = per_gpu_hour("2.50", input_tokens_per_s=9000, output_tokens_per_s=1221)

    assert price.cost(Usage(input_text=1)) == 78  # 2.5e9 / 3600 / 9000 is 77.2.
    assert price.cost(Usage(output=1)) == 569  # 2.5e9 / 3600 / 1221 is 568.8.
    assert price.version == "settings:gpu_hour:2.50/9000/1221"


@pytest.mark.parametrize("usd", ["-1", "much"])
def test_a_gpu_hour_that_is_no_price_is_refused(usd):
    with pytest.raises(ValueError, match="price"):
        per_gpu_hour(usd, 1, 1)


def test_1400_input_and_138_output_tokens_of_gpt_5_5_cost_11_140_000_nano_usd():
    assert GPT55.cost(Usage.billed(input_total=1400, output_total=138, image=1229)) == 11_140_000


def test_294_input_and_214_output_tokens_of_gemma_cost_88_260_nano_usd():
    assert per_million("0.060", "0.330").cost(Usage(input_text=34, input_image=260, output=214)) == 88_260


@given(
    st.integers(0, 600_000),
    st.integers(0, 600_000),
    st.integers(0, 130_000),
    st.integers(0, 130_000),
    st.sampled_from(list(TIERS)),
)
def test_every_cost_equals_the_price_list_s_own_calculation(fresh, cached, output, reasoning, tier):
    usage = Usage(input_text=fresh, cached_input=cached, output=output, reasoning=reasoning)
    oracle = genai_prices.calc_price(
        genai_prices.Usage(input_tokens=usage.input_total, cache_read_tokens=cached, output_tokens=usage.output_total),
        model_ref="gpt-5.5",
        provider_id="openai",
        price_context={"service_tier": TIERS[tier]},
    )

    assert GPT55.cost(usage, tier) == oracle.total_price * Decimal(10**9)


def test_a_model_that_the_list_does_not_have_is_an_error_and_never_free():
    with pytest.raises(UnknownPriceError, match="'gpt-nope' is not in the price list"):
        listed("gpt-nope", "openai")


@pytest.mark.parametrize("bad", ["0.0000001", "-1"])
def test_a_price_below_one_nano_usd_per_token_is_refused(bad):
    with pytest.raises(ValueError, match="nano-USD per token"):
        per_million(bad, "1")


def test_cached_input_costs_as_much_as_input_unless_told():
    assert per_million("1", "2").cost(Usage(cached_input=3)) == 3000
    assert per_million("1", "2", "0.5").cost(Usage(cached_input=3)) == 1500


def test_a_tier_without_rates_is_billed_as_standard():
    assert per_million("1", "2").cost(Usage(output=1), ServiceTier.FLEX) == 2000


def test_a_free_model_costs_nothing_and_says_so():
    assert FREE.cost(Usage(input_text=10**6, output=10**6)) == 0
    assert FREE.free
    assert not GPT55.free


@pytest.mark.parametrize("bad", ["abc", "", "Infinity", "NaN", "sNaN"])
def test_a_price_that_is_no_number_is_refused_and_not_repeated(bad):
    with pytest.raises(ValueError, match=r'^a price must be a number of US dollars per 1M tokens, such as "0\.060"$'):
        per_million("1", bad)


def test_a_call_of_exactly_the_long_context_threshold_costs_the_lower_rates():
    price = Price("banded", {ServiceTier.STANDARD: (Rates(1, 1, 1), Rates(2, 2, 2, above=100))})

    assert (price.cost(Usage(input_text=100)), price.cost(Usage(input_text=101))) == (100, 202)
