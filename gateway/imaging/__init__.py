"""Checks images by their headers, and makes of them what a model takes, in processes that can be killed."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.imaging.digest import Digests
    from gateway.imaging.header import inspect
    from gateway.imaging.held import HeldImages
    from gateway.imaging.limits import LIMIT_NAMES, Limits
    from gateway.imaging.prepare import Preparer

__all__ = ["LIMIT_NAMES", "Digests", "HeldImages", "Limits", "Preparer", "inspect"]

# Imported when first named: the decode workers import this package too, and must stay without gRPC.
_HOMES = {
    "LIMIT_NAMES": "limits",
    "Digests": "digest",
    "HeldImages": "held",
    "Limits": "limits",
    "Preparer": "prepare",
    "inspect": "header",
}


def __getattr__(name: str) -> object:
    """Gives a name of `__all__`."""
    if name not in _HOMES:
        raise AttributeError(name)
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
