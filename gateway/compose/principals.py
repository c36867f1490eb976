"""Makes what counts for principals: who they are, what they may spend, and how much they may ask at once."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from limits.aio.storage import MemoryStorage, RedisStorage

from gateway.budget import Window
from gateway.budget.shielded import Shielded
from gateway.policies.budget import Budgets
from gateway.policies.pace import TokenRates
from gateway.server.turnstile import Allowance, Turnstile

if TYPE_CHECKING:
    from contextlib import AsyncExitStack

    from limits.aio.storage import Storage

    from gateway.budget import Store
    from gateway.metrics import Metrics
    from gateway.server.identity import Identity
    from gateway.settings import Settings


@dataclass(frozen=True, slots=True)
class Counted:
    """Where it is counted what principals have, as long as the process lives, and the limits that hold now."""

    store: Store
    rates: Storage
    budgets: Budgets
    token_rates: TokenRates

    def limit(self, settings: Settings) -> None:
        """From now on the limits of *settings* hold; what was spent stays counted."""
        fail_open = _fails_open(settings)
        self.budgets.hold(
            {
                name: {Window(window): nano for window, nano in principal.budget.nano_usd.items()}
                for name, principal in settings.principals.items()
                if principal.budget.nano_usd
            },
            fail_open=fail_open,
        )
        self.token_rates.hold(
            {name: each.tokens_per_min for name, each in settings.principals.items() if each.tokens_per_min},
            fail_open=fail_open,
        )


def open_counted(settings: Settings, stack: AsyncExitStack, metrics: Metrics) -> Counted:
    """Gives it without any limit so far, open until *stack* ends; it touches nothing until there is one."""
    store, rates = _open_store(settings, stack), _open_rates(settings, stack)
    return Counted(
        store,
        rates,
        Budgets(store, {}, fail_open=False, metrics=metrics, now=time.time),
        TokenRates(rates, {}, fail_open=False, metrics=metrics),
    )


def _open_store(settings: Settings, stack: AsyncExitStack) -> Store:
    url, charge = settings.budgets.store, settings.budgets.on_crash == "charge"
    path = url.removeprefix("sqlite:///")
    # Imported only here: a gateway loads just the client that it uses.
    inner: Store
    if path == url:
        from gateway.budget.redis import RedisStore  # noqa: PLC0415

        inner = RedisStore(url, charge_expired=charge)
    else:
        from gateway.budget.sqlite import SqliteStore  # noqa: PLC0415

        inner = SqliteStore(Path(path), charge_expired=charge)
    store = Shielded(inner)
    stack.push_async_callback(store.aclose)
    return store


def _open_rates(settings: Settings, stack: AsyncExitStack) -> Storage:
    """Gives where rates are counted: where the budgets are if that is Redis, else in this process."""
    url = settings.budgets.store
    if url.startswith("sqlite"):
        return MemoryStorage()
    # Imported only here: a gateway loads just the client that it uses.
    from redis.asyncio import ConnectionPool  # noqa: PLC0415

    from gateway.budget.redis import PATIENCE_S  # noqa: PLC0415

    # What limits opens by itself, it has no way to close.
    pool = ConnectionPool.from_url(url, socket_timeout=PATIENCE_S, socket_connect_timeout=PATIENCE_S)
    stack.push_async_callback(pool.aclose)
    return RedisStorage(
        f"async+{url}",
        wrap_exceptions=True,
        implementation="redispy",
        connection_pool=pool,  # type: ignore[arg-type]  # Documented, if typed as text.
    )


def turnstile(settings: Settings, identity: Identity, counted: Counted, metrics: Metrics) -> Turnstile:
    """Gives what bounds how often, and how often at once, each of those that *identity* tells apart may call."""
    return Turnstile(
        identity,
        allowances={
            name: Allowance(principal.requests_per_s, principal.max_inflight)
            for name, principal in settings.principals.items()
        },
        store=counted.store,
        rates=counted.rates,
        fail_open=_fails_open(settings),
        metrics=metrics,
        now=time.time,
    )


def _fails_open(settings: Settings) -> bool:
    return settings.budgets.on_failure == "open"
