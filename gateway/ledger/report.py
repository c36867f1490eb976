"""Adds up the ledger by day, principal, RPC and model."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import BigInteger, case, cast, func, select
from sqlalchemy.exc import SQLAlchemyError

from gateway.ledger.table import ATTEMPTS, LedgerUnavailable, connect, name_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import ColumnElement, RowMapping, Select

_DAY_US = 86_400_000_000
_EPOCH = date(1970, 1, 1)
_C = ATTEMPTS.c
# The principal that makes calls nobody waits for.
_SHADOW = "shadow"
_DAY = _C.time_us // _DAY_US
GROUPS: dict[str, ColumnElement[Any]] = {
    "day": _DAY,
    "principal": _C.principal,
    "rpc": _C.rpc,
    "model": _C.model,
    "provider": _C.provider,
    "provider_model": _C.provider_model,
}
_INPUT = _C.input_text_tokens + _C.input_image_tokens + _C.cached_input_tokens
_SUMS: dict[str, ColumnElement[Any]] = {
    "attempts": func.count(),
    "failed": func.sum(case((_C.outcome == "failed", 1), else_=0)),
    # Attempts that a provider counts too: those that read something.
    "served": func.sum(case((_INPUT > 0, 1), else_=0)),
    "input_tokens": func.sum(_INPUT),
    "image_tokens": func.sum(_C.input_image_tokens),
    "cached_input_tokens": func.sum(_C.cached_input_tokens),
    "output_tokens": func.sum(_C.output_tokens + _C.reasoning_tokens),
    "reasoning_tokens": func.sum(_C.reasoning_tokens),
    "cost_nano_usd": func.sum(_C.cost_nano_usd),
    "estimated_nano_usd": func.sum(case((_C.basis == "estimated", _C.cost_nano_usd), else_=0)),
}


def usage(
    url: str, *, by: Sequence[str] = (), since: date | None = None, until: date | None = None
) -> list[dict[str, Any]]:
    """Gives a line for each group of attempts: the groups' own names, then counts, tokens and nano-USD.

    *by* are keys of `GROUPS`; without any there is one line of totals. Days are those of UTC, and *until* is the last
    one that counts. `input_tokens` has image and cached tokens in it, `output_tokens` those of reasoning, and
    `cost_nano_usd` what was estimated. Blocks. Raises `LedgerUnavailable`.
    """
    groups = [GROUPS[name].label(name) for name in by]
    sums = [cast(func.coalesce(each, 0), BigInteger).label(name) for name, each in _SUMS.items()]
    query = select(*groups, *sums).group_by(*groups).order_by(*groups)
    found = [dict(each) for each in _read(url, _between(query, since, until))]
    for each in found:
        if "day" in each:
            each["day"] = (_EPOCH + timedelta(days=each["day"])).isoformat()
    return found


def arrivals(url: str, *, since: date | None = None, until: date | None = None) -> list[tuple[int, str]]:
    """Gives of each call when a model was first asked, in microseconds since 1970-01-01 UTC, and its RPC, in order.

    Attempts of one principal under the same request id are one call; calls that no model was asked for, such as those
    answered out of the cache, are not known, and those of shadows are none. Blocks. Raises `LedgerUnavailable`.
    """
    first = func.min(_C.time_us).label("first")
    query = select(first, _C.rpc).where(_C.principal != _SHADOW)
    query = query.group_by(_C.principal, _C.request_id, _C.rpc).order_by(first, _C.rpc)
    return [(each["first"], each["rpc"]) for each in _read(url, _between(query, since, until))]


def _between(query: Select[Any], since: date | None, until: date | None) -> Select[Any]:
    if since is not None:
        query = query.where(_C.time_us >= _start_us(since))
    if until is not None:
        query = query.where(_C.time_us < _start_us(until + timedelta(days=1)))
    return query


def _read(url: str, query: Select[Any]) -> Sequence[RowMapping]:
    engine = connect(url, create=False)
    try:
        with engine.connect() as connection:
            return connection.execute(query).mappings().all()
    except SQLAlchemyError as exc:
        raise LedgerUnavailable(f"the ledger cannot be read: {name_of(exc)}") from None
    finally:
        engine.dispose()


def _start_us(day: date) -> int:
    return (day - _EPOCH).days * _DAY_US


def day_of(seconds: int) -> str:
    """Names the UTC day of *seconds* since 1970-01-01."""
    return datetime.fromtimestamp(seconds, tz=UTC).date().isoformat()
