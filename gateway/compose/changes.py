"""Says what differs between two readings of the settings, and what of it a running gateway cannot change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from gateway.settings import Settings

# What is opened, or told to a library, once: whole tables, or single settings.
_FIXED = (
    "server.grpc_address",
    "server.http_address",
    "server.workers",
    "server.max_deadline_s",
    "server.log_format",
    "server.reload",
    "server.tls.client_auth",
    "server.tls.http",
    "server.reflection",
    "images.workers",
    "images.timeout_s",
    "ledger",
    "budgets.store",
    "budgets.on_crash",
    "cache",
    "tracing",
)
# As a whole, not what is in it: the files may be others.
_WHETHER_TLS = "server.tls"


def changes(before: Settings, after: Settings) -> dict[str, str]:
    """Gives `added`, `removed` or `changed` by dotted name such as `models.gemma.price.input`; never a value."""
    return dict(_differences(_tables(before), _tables(after)))


def needs_restart(changed: Mapping[str, str], first: Settings, after: Settings) -> list[str]:
    """Says which of the changes can only be had by a restart, a line for each; *first* is what the process began with.

    The largest message that the port takes is fixed by then, but images may be held to less.
    """
    problems = [
        f"{name} needs a restart"
        for name in changed
        if name == _WHETHER_TLS or any(name == fixed or name.startswith(f"{fixed}.") for fixed in _FIXED)
    ]
    most = first.images.max_mib
    if after.images.max_mib > most:
        problems.append(f"images.max_mib above {most}, which this process began with, needs a restart")
    return problems


def _tables(settings: Settings) -> dict[str, Any]:
    # The default route among them, which may be there by the order of the models alone.
    return settings.model_dump() | {"routes": {name: each.model_dump() for name, each in settings.all_routes.items()}}


def _differences(before: Mapping[str, Any], after: Mapping[str, Any], at: str = "") -> Iterator[tuple[str, str]]:
    for key in {**before, **after}:
        name = f"{at}{key}"
        if key not in before:
            yield name, "added"
        elif key not in after:
            yield name, "removed"
        elif isinstance(before[key], dict) and isinstance(after[key], dict):
            yield from _differences(before[key], after[key], f"{name}.")
        elif before[key] != after[key]:
            yield name, "changed"
