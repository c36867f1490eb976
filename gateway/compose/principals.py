"""Makes what counts for principals: who they are, what they may spend, and how much they may ask at once."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from limits.aio.storage import MemoryStorage, RedisStorage

from gateway.budget import Window
from gateway.budget.shielded import Shielded
from gateway.policies.budget import Budgets
from gateway.policies.pace import TokenRates
from gateway.server.identity import ANONYMOUS, Identity
from gateway.server.turnstile import Allowance, Turnstile

if TYPE_CHECKING:
    from contextlib import AsyncExitStack

    from limits.aio.storage import Storage

    from gateway.budget import Store
    from gateway.metrics import Metrics
    from gateway.settings import Settings


def open_store(settings: Settings, stack: AsyncExitStack) -> Store | None:
    """Gives the store of what principals have, None where nobody has a limit that it counts."""
    if not any(principal.budget.nano_usd or principal.max_inflight for principal in settings.principals.values()):
        return None
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


def budgets(settings: Settings, store: Store | None, metrics: Metrics) -> Budgets | None:
    """Gives the budgets of the principals, None where nobody has one."""
    limits = {
        name: {Window(window): nano for window, nano in principal.budget.nano_usd.items()}
        for name, principal in settings.principals.items()
        if principal.budget.nano_usd
    }
    if store is None or not limits:
        return None
    return Budgets(store, limits, fail_open=settings.budgets.on_failure == "open", metrics=metrics, now=time.time)


def open_rates(settings: Settings, stack: AsyncExitStack) -> Storage:
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


def token_rates(settings: Settings, rates: Storage, metrics: Metrics) -> TokenRates | None:
    """Gives the tokens a minute of the principals, None where nobody has a limit."""
    limits = {name: each.tokens_per_min for name, each in settings.principals.items() if each.tokens_per_min}
    return TokenRates(rates, limits, settings.budgets.on_failure == "open", metrics) if limits else None


def turnstile(settings: Settings, store: Store | None, rates: Storage, metrics: Metrics) -> Turnstile:
    """Gives what tells callers apart and bounds how often, and how often at once, each may call."""
    principals = settings.principals
    return Turnstile(
        Identity(
            {key: name for name, principal in principals.items() for key in principal.key_sha256},
            anonymous=ANONYMOUS in principals,
        ),
        allowances={
            name: Allowance(principal.requests_per_s, principal.max_inflight) for name, principal in principals.items()
        },
        store=store,
        rates=rates,
        fail_open=settings.budgets.on_failure == "open",
        metrics=metrics,
        now=time.time,
    )
