"""Exact cost arithmetic in nano US dollars (10^-9 USD).

A price of `$0.060 per 1M tokens` is exactly 60 nano-USD per token, so costs are sums of whole numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import ROUND_CEILING, Decimal, InvalidOperation
from importlib.metadata import version
from typing import TYPE_CHECKING

from gateway.domain import ServiceTier

if TYPE_CHECKING:
    from genai_prices.types import ModelPrice

    from gateway.usage import Usage

_NANO = 10**9
_NANO_USD_PER_TOKEN = 1000  # For one dollar per million tokens.
_LISTED_TIERS = {ServiceTier.STANDARD: "default", ServiceTier.FLEX: "flex", ServiceTier.PRIORITY: "priority"}


class UnknownPriceError(LookupError):
    """A model has no price; the gateway refuses to start rather than count it as free."""


@dataclass(frozen=True, slots=True)
class Rates:
    """Nano-USD per token of input, cached input and output, for calls of more than *above* input tokens."""

    input: int
    cached_input: int
    output: int
    above: int = 0


@dataclass(frozen=True, slots=True)
class Price:
    """Rates of one model by service tier, the long-context ones after the base; no tiers at all means free."""

    version: str
    tiers: Mapping[ServiceTier, tuple[Rates, ...]]

    @property
    def free(self) -> bool:
        """Whether the model costs nothing per call."""
        return not self.tiers

    def cost(self, usage: Usage, tier: ServiceTier = ServiceTier.STANDARD) -> int:
        """Costs *usage* in nano-USD. A tier without rates of its own is billed as STANDARD.

        Above a long-context threshold the whole call is billed at the higher rates.
        """
        if self.free:
            return 0
        bands = self.tiers.get(tier, self.tiers[ServiceTier.STANDARD])
        rates = max((band for band in bands if usage.input_total > band.above or not band.above), key=lambda b: b.above)
        return (
            (usage.input_text + usage.input_image) * rates.input
            + usage.cached_input * rates.cached_input
            + usage.output_total * rates.output
        )


FREE = Price("free", {})


def per_million(input_usd: str, output_usd: str, cached_input_usd: str | None = None) -> Price:
    """Reads dollars per million tokens as vendors print them, such as `"0.060"`; cached input defaults to input.

    Raises ValueError unless each is a whole number of nano-USD per token, at least 0.
    """
    rates = Rates(
        _nano_per_token(_decimal(input_usd)),
        _nano_per_token(_decimal(input_usd if cached_input_usd is None else cached_input_usd)),
        _nano_per_token(_decimal(output_usd)),
    )
    return Price(f"settings:{input_usd}/{output_usd}", {ServiceTier.STANDARD: (rates,)})


def per_gpu_hour(usd: str, input_tokens_per_s: float, output_tokens_per_s: float) -> Price:
    """Shares the price of one hour of the hardware among the tokens it reads, or writes, in that hour.

    The rates are those of the hardware under its usual load, all calls together: `vision-gateway triton check` measures
    them. Each is rounded up to a whole nano-USD per token. Raises ValueError unless *usd* is a number of at least 0.
    """
    hour = _decimal(usd)
    if hour < 0:
        raise ValueError("the price of a GPU hour is at least 0")
    reads, writes = (
        int((hour * _NANO / 3600 / Decimal(str(rate))).to_integral_value(ROUND_CEILING))
        for rate in (input_tokens_per_s, output_tokens_per_s)
    )
    version_ = f"settings:gpu_hour:{usd}/{input_tokens_per_s:g}/{output_tokens_per_s:g}"
    return Price(version_, {ServiceTier.STANDARD: (Rates(reads, reads, writes),)})


def listed(model: str, provider: str) -> Price:
    """Finds *model* in the price list of the genai-prices package, as of today.

    Raises `UnknownPriceError` for a model or provider that the list does not have.
    """
    # Imported here: the list is 30 MB in memory, and a deployment that sets its own prices needs none of it.
    from genai_prices.data_snapshot import get_snapshot  # noqa: PLC0415

    try:
        found = get_snapshot().find_provider_model(model, None, provider, None)[1]
    except LookupError:
        raise UnknownPriceError(
            f"model {model!r} is not in the price list of provider {provider!r}; set its price in the settings"
        ) from None
    today = datetime.now(tz=UTC)
    tiers = {
        tier: _bands(found.get_prices(today, {"service_tier": name}), model) for tier, name in _LISTED_TIERS.items()
    }
    return Price(f"genai-prices:{version('genai-prices')}:{found.id}", tiers)


def _bands(price: ModelPrice, model: str) -> tuple[Rates, ...]:
    inputs, outputs = getattr(price, "input_mtok", None), getattr(price, "output_mtok", None)
    if inputs is None or outputs is None:
        raise UnknownPriceError(f"the price list has no token prices for {model!r}; set its price in the settings")
    cached = getattr(price, "cache_read_mtok", None) or inputs
    starts = sorted({0} | {tier.start for kind in (inputs, cached, outputs) for tier in getattr(kind, "tiers", ())})
    return tuple(Rates(_at(inputs, start), _at(cached, start), _at(outputs, start), above=start) for start in starts)


def _at(price: object, start: int) -> int:
    """Nano-USD per token for calls of more than *start* input tokens."""
    reached = [tier for tier in getattr(price, "tiers", ()) if tier.start <= start]
    dollars = max(reached, key=lambda tier: tier.start).price if reached else getattr(price, "base", price)
    return _nano_per_token(Decimal(str(dollars)))


def _decimal(usd: str) -> Decimal:
    try:
        amount = Decimal(usd)
    except InvalidOperation:
        amount = Decimal("NaN")
    if not amount.is_finite():
        # What stands there is not repeated: it may be a secret in the wrong place.
        raise ValueError('a price must be a number of US dollars per 1M tokens, such as "0.060"')
    return amount


def _nano_per_token(usd_per_million: Decimal) -> int:
    nano = usd_per_million * _NANO_USD_PER_TOKEN
    if nano != nano.to_integral_value() or nano < 0:
        raise ValueError(f"${usd_per_million} per 1M tokens is not a whole, non-negative number of nano-USD per token")
    return int(nano)
