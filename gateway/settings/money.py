"""The tables about money: what models cost, what principals may spend, and where that is counted."""

from __future__ import annotations

import os
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from gateway.settings.table import Table

_NANO_USD = 1_000_000_000
# Whole numbers up to here are exact also in Redis, whose scripts count in doubles: below 2**53.
_MOST_NANO_USD = 9_000_000 * _NANO_USD


def _state_file(name: str) -> str:
    # As the XDG Base Directory Specification has it.
    state = os.environ.get("XDG_STATE_HOME")
    if not state:
        try:
            state = str(Path.home() / ".local" / "state")
        except RuntimeError:
            # A user without a home, as in some containers.
            state = "/var/lib"
    return f"sqlite:///{state}/vision-gateway/{name}"


class LedgerSettings(Table):
    """`[ledger]`: where every attempt at a model is written down."""

    # sqlite:///PATH, postgresql://USER:PASSWORD@HOST/DATABASE, or "off".
    url: str = Field(default_factory=lambda: _state_file("ledger.db"), repr=False)

    @field_validator("url")
    @classmethod
    def _is_known(cls, url: str) -> str:
        if url != "off" and not url.startswith(("sqlite:///", "postgresql://")):
            # What stands there is not repeated: it may have a password in it.
            raise ValueError('must be sqlite:///PATH, postgresql://..., or "off"')
        return url


class BudgetsSettings(Table):
    """`[budgets]`: where what principals spend is counted, and what to do when that fails."""

    # sqlite:///PATH, shared by the workers of one machine, or redis://HOST:PORT/0, shared by many machines.
    store: str = Field(default_factory=lambda: _state_file("budgets.db"), repr=False)
    # While the store is down: "closed" lets free models alone answer, "open" lets calls pass uncounted.
    on_failure: Literal["closed", "open"] = "closed"
    # What the worst case of a call counts as when its worker dies before its bill is known.
    on_crash: Literal["charge", "release"] = "charge"

    @field_validator("store")
    @classmethod
    def _is_known(cls, store: str) -> str:
        if not store.startswith(("sqlite:///", "redis://", "rediss://")):
            # What stands there is not repeated: it may have a password in it.
            raise ValueError("must be sqlite:///PATH or redis://HOST:PORT/0")
        return store


class BudgetSettings(Table):
    """`budget`: US dollars that may be spent in each hour, day and month (UTC), as text so that they stay exact."""

    hour: str | None = None
    day: str | None = None
    month: str | None = None

    @field_validator("hour", "day", "month")
    @classmethod
    def _is_exact(cls, usd: str | None) -> str | None:
        if usd is not None:
            _nano_usd(usd)
        return usd

    @property
    def nano_usd(self) -> dict[str, int]:
        """The limits of the windows that have one."""
        named = {"hour": self.hour, "day": self.day, "month": self.month}
        return {window: _nano_usd(usd) for window, usd in named.items() if usd is not None}


class PriceSettings(Table):
    """`price`: US dollars per million tokens, as text so that they stay exact, such as `"0.060"`."""

    input: str
    output: str
    cached_input: str | None = None


class GpuPriceSettings(Table):
    """`price` of hardware of one's own: US dollars per hour, as text, and the tokens it reads and writes a second."""

    gpu_hour: str
    input_tokens_per_s: float = Field(gt=0)
    output_tokens_per_s: float = Field(gt=0)


def _nano_usd(usd: str) -> int:
    try:
        nano = Decimal(usd) * _NANO_USD
    except InvalidOperation:
        nano = Decimal("NaN")
    if not nano.is_finite() or nano != nano.to_integral_value() or not 0 <= nano <= _MOST_NANO_USD:
        raise ValueError('must be US dollars, at most 9000000 and to nine decimals, such as "20.00"')
    return int(nano)
