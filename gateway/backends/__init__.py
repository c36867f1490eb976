"""One file per kind of backend: `kind = "triton"` is `gateway/backends/triton.py`."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from gateway.domain import Completion, Prompt, SentImage


class Backend(Protocol):
    """A model endpoint. Safe to use from many coroutines at once."""

    async def complete(self, prompt: Prompt, images: Sequence[SentImage], *, timeout_s: float) -> Completion:
        """Asks the model once, within *timeout_s* seconds, or raises a `GatewayError`.

        Never retries. Cancelling the coroutine stops the work upstream. A failure that was billed carries its usage.
        """
        ...

    async def ready(self) -> bool:
        """Tells whether the model can be asked now; takes at most a few seconds and never raises."""
        ...


def open_backend(kind: str, options: Mapping[str, object]) -> AbstractAsyncContextManager[Backend]:
    """Opens a backend of *kind*; its connections close when the context ends.

    Each kind's module has `connect(**options)`, an async context manager. Only the kinds in use are imported.
    """
    module = import_module(f"{__name__}.{kind}")
    opened: AbstractAsyncContextManager[Backend] = module.connect(**options)
    return opened
