"""The one table of the ledger, and how its database is opened."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    URL,
    BigInteger,
    Column,
    Integer,
    MetaData,
    Table,
    Text,
    create_engine,
    event,
    make_url,
    text,
)
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.schema import CreateIndex, CreateTable

from gateway import wal

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from gateway.usage import Usage

# Milliseconds that SQLite waits for another process to end its commit; a commit takes about one.
_BUSY_TIMEOUT_MS = 2_000
# Seconds to reach PostgreSQL, and milliseconds until a silent connection to it counts as lost.
_CONNECT_TIMEOUT_S = 5
_SILENCE_MS = 10_000
# So that of several gateways that start at once one makes the table; any number will do.
_MAKING_THE_TABLE = 0x76697367


class LedgerUnavailable(Exception):
    """The database of the ledger cannot be used; the message names it without its password."""


def _id() -> str:
    return secrets.token_hex(16)


@dataclass(frozen=True, slots=True)
class Row:
    """One attempt at a model.

    *time_us* is when it was asked, in microseconds since 1970-01-01 UTC. *provider* is the kind of the backend,
    *provider_model* the provider's own name of the model. *cost_nano_usd* is in 10^-9 US dollars; *basis* says whether
    it was `billed`, `estimated` or `free`. *outcome* is `ok` or `failed`, for *reason*. *id* makes one row of
    one that is written twice because nobody knows whether the first time went well.
    """

    time_us: int
    request_id: str
    principal: str
    rpc: str
    model: str
    provider: str
    provider_model: str
    tier_asked: str
    tier_billed: str
    usage: Usage
    cost_nano_usd: int
    basis: str
    price_version: str
    outcome: str
    reason: str = ""
    id: str = field(default_factory=_id)

    def values(self) -> dict[str, Any]:
        """Gives the row by the names of the table's columns."""
        usage = self.usage
        return {
            "id": self.id,
            "time_us": self.time_us,
            "request_id": self.request_id,
            "principal": self.principal,
            "rpc": self.rpc,
            "model": self.model,
            "provider": self.provider,
            "provider_model": self.provider_model,
            "tier_asked": self.tier_asked,
            "tier_billed": self.tier_billed,
            "input_text_tokens": usage.input_text,
            "input_image_tokens": usage.input_image,
            "cached_input_tokens": usage.cached_input,
            "output_tokens": usage.output,
            "reasoning_tokens": usage.reasoning,
            "cost_nano_usd": self.cost_nano_usd,
            "basis": self.basis,
            "price_version": self.price_version,
            "outcome": self.outcome,
            "reason": self.reason,
        }


def _text(name: str) -> Column[str]:
    return Column(name, Text, nullable=False)


def _tokens(name: str) -> Column[int]:
    return Column(name, Integer, nullable=False)


ATTEMPTS = Table(
    "vision_gateway_attempts",
    MetaData(),
    Column("id", Text, primary_key=True),
    Column("time_us", BigInteger, nullable=False, index=True),
    _text("request_id"),
    _text("principal"),
    _text("rpc"),
    _text("model"),
    _text("provider"),
    _text("provider_model"),
    _text("tier_asked"),
    _text("tier_billed"),
    _tokens("input_text_tokens"),
    _tokens("input_image_tokens"),
    _tokens("cached_input_tokens"),
    _tokens("output_tokens"),
    _tokens("reasoning_tokens"),
    Column("cost_nano_usd", BigInteger, nullable=False),
    _text("basis"),
    _text("price_version"),
    _text("outcome"),
    _text("reason"),
)


def connect(url: str, *, create: bool) -> Engine:
    """Opens the database at *url*, `sqlite:///PATH` or `postgresql://...`; *create* makes it where it is missing.

    Blocks. Raises `LedgerUnavailable`.
    """
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise LedgerUnavailable("the URL of the ledger is none") from None
    where = parsed.render_as_string(hide_password=True)
    engine = None
    try:
        engine = _sqlite(parsed, create=create) if parsed.get_backend_name() == "sqlite" else _postgresql(parsed)
        with engine.begin() as connection:
            if create:
                if engine.dialect.name == "postgresql":
                    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MAKING_THE_TABLE})
                connection.execute(CreateTable(ATTEMPTS, if_not_exists=True))
                for index in ATTEMPTS.indexes:
                    connection.execute(CreateIndex(index, if_not_exists=True))
            # Also tells a table of that name that is not ours.
            connection.execute(ATTEMPTS.select().limit(1))
    except ModuleNotFoundError:
        raise LedgerUnavailable(f"{where} needs psycopg: pip install 'vision-gateway[postgresql]'") from None
    except OSError as exc:
        raise LedgerUnavailable(f"{where} cannot be opened: {exc.strerror}") from None
    except SQLAlchemyError as exc:
        if engine is not None:
            engine.dispose()
        raise LedgerUnavailable(f"{where} cannot be opened: {name_of(exc)}") from None
    return engine


def name_of(exc: Exception) -> str:
    """Names what went wrong in a database's own short word; its messages may have data in them."""
    cause = getattr(exc, "orig", None)
    word = getattr(cause, "sqlite_errorname", None) or getattr(cause, "sqlstate", None)
    return str(word or type(cause or exc).__name__)


def _sqlite(url: URL, *, create: bool) -> Engine:
    if not url.database or url.database == ":memory:":
        raise LedgerUnavailable("a ledger in SQLite needs the path of a file: sqlite:///PATH")
    path = Path(url.database)
    if create:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    elif not path.is_file():
        raise LedgerUnavailable(f"there is no ledger {path}")
    engine = create_engine(url, connect_args={"timeout": _BUSY_TIMEOUT_MS / 1000})

    @event.listens_for(engine, "connect")
    def _set_up(connection: Any, _: object) -> None:
        wal.switch_on(connection, patience_s=_BUSY_TIMEOUT_MS / 1000)

    return engine


def _postgresql(url: URL) -> Engine:
    return create_engine(
        url.set(drivername="postgresql+psycopg"),
        connect_args={"connect_timeout": _CONNECT_TIMEOUT_S, "tcp_user_timeout": _SILENCE_MS},
    )
