"""Money and calls that principals may have at once, counted by a store that all workers share.

A call reserves its worst case before it is asked and settles for its bill after. A window's `spent + reserved` never
exceeds its limit; both happen in one transaction of the store. What is charged belongs to the windows in which it was
reserved, since those had room for it. A reservation is a lease: when its worker dies, it expires.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Protocol

_DAYS_OF_ANY_MONTH = 32
# Seconds after its beginning that a window's figures are kept: a month, and time to settle what it began.
KEPT_S = 40 * 86_400


class Window(Enum):
    """A stretch of the calendar, in UTC."""

    HOUR = "hour"
    DAY = "day"
    MONTH = "month"

    def starts_at(self, now: float) -> int:
        """Gives the Unix time at which the window around *now* began."""
        return int(self._start(now).timestamp())

    def ends_at(self, now: float) -> int:
        """Gives the Unix time at which the next window begins."""
        start = self._start(now)
        match self:
            case Window.HOUR:
                end = start + timedelta(hours=1)
            case Window.DAY:
                end = start + timedelta(days=1)
            case Window.MONTH:
                end = (start + timedelta(days=_DAYS_OF_ANY_MONTH)).replace(day=1)
        return int(end.timestamp())

    def _start(self, now: float) -> datetime:
        hour = datetime.fromtimestamp(now, UTC).replace(minute=0, second=0, microsecond=0)
        match self:
            case Window.HOUR:
                return hour
            case Window.DAY:
                return hour.replace(hour=0)
            case Window.MONTH:
                return hour.replace(day=1, hour=0)


# Nano-USD that may be spent in each window, below 2**53, to where Redis compares exactly; one that is not named has no
# limit.
Limits = Mapping[Window, int]


@dataclass(frozen=True, slots=True)
class Claim:
    """What is to be reserved: *amount* in nano-USD, for *lease_s* seconds from *now*, a Unix time."""

    principal: str
    amount: int
    limits: Limits
    now: float
    lease_s: float


@dataclass(frozen=True, slots=True)
class Reservation:
    """*amount* nano-USD that nobody else can have until it is settled or expires."""

    id: str
    principal: str
    amount: int


@dataclass(frozen=True, slots=True)
class Balance:
    """Nano-USD of one principal in one window."""

    spent: int = 0
    reserved: int = 0


class Exhausted(Exception):
    """A claim does not fit into *window*; amounts in nano-USD, *resets_at* a Unix time."""

    def __init__(self, window: Window, *, limit: int, balance: Balance, resets_at: int) -> None:
        """*balance* is what stood in the way."""
        super().__init__(f"{balance.spent} spent and {balance.reserved} reserved of {limit} in the {window.value}")
        self.window = window
        self.limit = limit
        self.balance = balance
        self.resets_at = resets_at


class TooMany(Exception):
    """The principal has as many calls in flight as it may."""


class StoreFailed(Exception):
    """The store cannot be reached, or cannot write. Its own exception is the cause, and for the log alone."""


class Store(Protocol):
    """Where it is counted. Every method raises `StoreFailed` when the store is down."""

    async def reserve(self, claim: Claim) -> Reservation:
        """Reserves, in all windows or in none; raises `Exhausted`. Reservations that expired are dealt with first."""
        ...

    async def settle(self, reservation: Reservation, actual: int) -> None:
        """Charges *actual* nano-USD in place of the reservation; a second time, nothing.

        One that expired meanwhile is corrected to *actual*.
        """
        ...

    async def balance(self, principal: str, now: float) -> Mapping[Window, Balance]:
        """Gives what *principal* has spent and reserved in the windows around *now*, all at one moment."""
        ...

    async def enter(self, principal: str, most: int, *, now: float, lease_s: float) -> str:
        """Takes one of *most* places for a call, and gives its id; raises `TooMany`.

        The place is free again when the lease ends.
        """
        ...

    async def leave(self, principal: str, place: str) -> None:
        """Gives a place back."""
        ...

    async def aclose(self) -> None:
        """Lets go of what the store has open."""
        ...
