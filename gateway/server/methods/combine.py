"""Several tasks of one call in one question to a model, so that it reads the image once."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING

from gateway.domain import CachePolicy, SeveralQuery, Trace

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gateway.domain import Ask, Options
    from gateway.tasks import AnyTask

# Of the time there is, what they may take together: a task whose answer is of no use is then asked by itself.
_SHARE = 2 / 3
_MOST_OUTPUT_TOKENS = 32_768


def groups(asks: Sequence[Ask], tasks: Mapping[str, AnyTask]) -> list[list[int]]:
    """Lists the places of *asks* in groups that one model may be asked at once, in the order of their first.

    A group is of asks with the same options, which pin no model and name no route, about the one image that all share.
    """
    alike: defaultdict[Options | int, list[int]] = defaultdict(list)
    for index, ask in enumerate(asks):
        fits = len(ask.images) == 1 and not ask.options.model and not ask.options.route
        alike[ask.options if fits and tasks[ask.query.rpc].combines(ask.query) else index].append(index)
    return list(alike.values())


def together(asks: Sequence[Ask], received_at: float) -> Ask:
    """Makes one ask of a group of *asks*, which came at *received_at*; what bounds one of them bounds it so many times.

    No cache is looked into: what is kept there are answers to single tasks.
    """
    first, count = asks[0], len(asks)
    options = first.options
    limit, output = options.max_cost_nano_usd, options.max_output_tokens
    return replace(
        first,
        query=SeveralQuery(tuple(ask.query for ask in asks)),
        options=replace(
            options,
            max_cost_nano_usd=None if limit is None else limit * count,
            max_output_tokens=None if output is None else min(output * count, _MOST_OUTPUT_TOKENS),
            cache=CachePolicy.BYPASS,
        ),
        deadline=received_at + (first.deadline - received_at) * _SHARE,
        trace=Trace(),
        quotes={},
    )


def precede(trace: Trace, earlier: Trace) -> None:
    """Adds to *trace* the time that *earlier* took, which went before."""
    trace.queue_s += earlier.queue_s
    trace.image_s += earlier.image_s
    trace.upstream_s += earlier.upstream_s
