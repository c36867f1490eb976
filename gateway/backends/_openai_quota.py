"""Reads the headers in which OpenAI tells what is left of the account's rate limits.

They are those of https://developers.openai.com/api/docs/guides/rate-limits, "Rate limits in headers".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.domain import QuotaKind, UpstreamQuota

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# More digits are no number of requests or tokens.
_LONGEST = 15


def quotas(headers: Mapping[str, str]) -> Iterator[UpstreamQuota]:
    """Gives each limit of which *headers*, whose names are in any case, tell what is left, in whole numbers.

    What is no such number is as if it were not there: Azure has sent -1 with answers of the Responses API
    (https://github.com/openai/openai-dotnet/issues/838).
    """
    for kind in QuotaKind:
        remaining = _count(headers.get(f"x-ratelimit-remaining-{kind}"))
        if remaining is not None:
            yield UpstreamQuota(kind, remaining, _count(headers.get(f"x-ratelimit-limit-{kind}")))


def _count(value: str | None) -> int | None:
    if value is None or not (value.isascii() and value.isdigit()) or len(value) > _LONGEST:
        return None
    return int(value)
