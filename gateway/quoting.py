"""Prices an ask at one model before it is asked, and makes it fit into an allowance; decodes no pixels."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from gateway.brief import TYPICAL_OUTPUT, brief
from gateway.domain import ImageDetail, Quote, ServiceTier
from gateway.errors import CostAboveLimit
from gateway.usage import Usage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gateway.brief import Brief
    from gateway.domain import Ask
    from gateway.pricing import Price
    from gateway.profiles import Profile
    from gateway.tasks import AnyTask

# Of the output a task leaves room for, the least that is worth paying for: an answer cut off is no answer.
_LEAST_SHARE_OF_OUTPUT = 4
_LEAST_OUTPUT = 64
_NOTHING = None, None, None, None


class Quoter:
    """Knows what asks cost at one model."""

    def __init__(self, name: str, profile: Profile, price: Price, tasks: Mapping[str, AnyTask]) -> None:
        """*name* is the operator's name of the model."""
        self._name = name
        self._profile = profile
        self._price = price
        self._tasks = tasks

    def quote(self, ask: Ask) -> Quote:
        """Prices *ask*, once for all policies that want to know; raises `UnsupportedByModel` where the model would."""
        query, images, options, known = ask.quotes.get(self._name, _NOTHING)
        if query is ask.query and images is ask.images and options is ask.options and known:
            return known
        quote = self._priced(ask, self._brief(ask))
        ask.quotes[self._name] = ask.query, ask.images, ask.options, quote
        return quote

    def fit(self, ask: Ask, allowance: int) -> Ask:
        """Gives *ask* such that its worst case costs at most *allowance* nano-USD, changed as little as that takes.

        First the answer gets shorter, down to a quarter of what the task leaves room for; then, unless the caller chose
        an `image_detail`, the image gets smaller. Raises `CostAboveLimit` when not even that is enough.
        """
        found = self._brief(ask)
        if self._priced(ask, found).max_cost <= allowance:
            return ask
        wished = ask.options.image_detail or self._profile.detail(ask.query)
        least_cost = 0
        for detail in [wished] if ask.options.image_detail else sorted(ImageDetail, reverse=True):
            if detail > wished:
                continue
            shrunk = replace(ask, options=replace(ask.options, image_detail=detail))
            found = self._brief(shrunk)
            least = min(found.max_output_tokens, max(found.max_output_tokens // _LEAST_SHARE_OF_OUTPUT, _LEAST_OUTPUT))
            affordable = self._affordable_output(shrunk, found, allowance)
            if affordable >= least:
                options = replace(shrunk.options, max_output_tokens=min(affordable, found.max_output_tokens))
                return replace(shrunk, options=options)
            least_cost = self._worst(shrunk, found, least)
        raise CostAboveLimit(
            f"{self._name} may cost {least_cost} nano-USD even with a short answer, and {allowance} are allowed: "
            "lower image_detail or max_output_tokens, or allow more",
            metadata={"allowed_nano_usd": str(allowance), "least_worst_case_nano_usd": str(least_cost)},
        )

    def _brief(self, ask: Ask) -> Brief:
        return brief(ask, self._name, self._profile, self._tasks)

    def _priced(self, ask: Ask, found: Brief) -> Quote:
        typical = Usage(
            input_text=found.text_tokens,
            input_image=found.image_tokens,
            output=min(found.max_output_tokens, TYPICAL_OUTPUT * len(ask.query.parts)),
        )
        plan = found.plans[0]
        return Quote(
            image_tokens=found.image_tokens,
            input_tokens=found.image_tokens + found.text_tokens,
            max_output_tokens=found.max_output_tokens,
            expected_cost=self._price.cost(typical, ask.options.service_tier),
            max_cost=self._worst(ask, found, found.max_output_tokens),
            price_version=self._price.version,
            sent_px=(plan.width_px, plan.height_px),
        )

    def _worst(self, ask: Ask, found: Brief, output: int) -> int:
        # Byte-level BPE (GPT) and SentencePiece with byte fallback (Gemma) never make a token of less than one byte.
        usage = Usage(input_text=found.text_bytes, input_image=found.image_tokens, output=output)
        return max(self._price.cost(usage, tier) for tier in _billable(ask))

    def _affordable_output(self, ask: Ask, found: Brief, allowance: int) -> int:
        # The cost of output is the same for each token, by any one tier.
        without, with_one = self._worst(ask, found, 0), self._worst(ask, found, 1)
        rate = max(with_one - without, 1)
        return (allowance - without) // rate


def _billable(ask: Ask) -> tuple[ServiceTier, ServiceTier]:
    # A provider may serve, and bill, the standard tier in place of a cheaper one.
    return ask.options.service_tier, ServiceTier.STANDARD
