"""Policies are models that wrap a model: one small file each, stacked in `app.py`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from gateway.domain import Answer, Ask


class Model(Protocol):
    """Whatever can answer an ask: a model behind its profile, or a policy around one or several."""

    async def answer(self, ask: Ask) -> Answer:
        """Answers *ask* before its deadline, or raises a `GatewayError`."""
        ...

    async def ready(self) -> bool:
        """Tells whether an ask would find somebody to answer it now."""
        ...
