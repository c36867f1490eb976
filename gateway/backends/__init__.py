"""One file per kind of backend: `kind = "triton"` is `gateway/backends/triton.py`.

Each such module has `Options`, a pydantic model of its settings, and `connect(options, *, on_quota)`, an async context
manager that yields a `Backend`; *on_quota* hears what the provider says is left of its limits, if it has any. Modules
whose name starts with an underscore are private to the one kind that they are named after.
"""

from __future__ import annotations

import pkgutil
from importlib import import_module
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager
    from types import ModuleType

    from pydantic import BaseModel

    from gateway.domain import Completion, Prompt, QuotaListener, SentImage


class Backend(Protocol):
    """A model endpoint. Safe to use from many coroutines at once."""

    async def complete(self, prompt: Prompt, images: Sequence[SentImage], *, timeout_s: float) -> Completion:
        """Asks the model once, within *timeout_s* seconds, or raises a `GatewayError`.

        Never retries. Cancelling the coroutine stops the work upstream. A failure that was billed carries its usage.
        """
        ...

    @property
    def streams(self) -> bool:
        """Whether `stream` gives the text as the model writes it; where not, nobody calls it."""
        ...

    def stream(
        self, prompt: Prompt, images: Sequence[SentImage], *, timeout_s: float
    ) -> AsyncGenerator[str | Completion]:
        """Like `complete`, but yields the text piece by piece as it comes, and last of all the whole `Completion`.

        Pieces are the model's own words, before the family's profile reads them; none is empty. Nothing is read from
        upstream while nobody asks for the next piece. Closing the generator, or cancelling who waits for it, stops the
        work upstream. What fails after some pieces raises as it would before the first; a stream without its end is a
        `BrokenOff`, never a whole answer.
        """
        ...

    async def ready(self) -> bool:
        """Tells whether the model can be asked now; takes at most a few seconds and never raises."""
        ...


class Whole:
    """A backend whose answers come whole."""

    @property
    def streams(self) -> bool:
        """It does not."""
        return False

    def stream(
        self, prompt: Prompt, images: Sequence[SentImage], *, timeout_s: float
    ) -> AsyncGenerator[str | Completion]:
        """Raises, for nobody calls it."""
        raise NotImplementedError


def parse_options(kind: str, raw: Mapping[str, object]) -> BaseModel:
    """Checks the settings of one backend.

    Raises LookupError, listing the kinds there are, for an unknown *kind*, and pydantic's ValidationError, listing
    every wrong field, for *raw*.
    """
    return options_of(kind).model_validate(raw)


def options_of(kind: str) -> type[BaseModel]:
    """Gives the table of what can be set of one backend; raises LookupError, listing the kinds there are."""
    options: type[BaseModel] = _module(kind).Options
    return options


def open_backend(
    kind: str, options: BaseModel, *, on_quota: QuotaListener = lambda _: None
) -> AbstractAsyncContextManager[Backend]:
    """Opens a backend of *kind* with what `parse_options` gave; its connections close when the context ends.

    The server behind it need not be up yet. *on_quota* hears what a provider says is left of its limits, with answers
    and failures alike.
    """
    opened: AbstractAsyncContextManager[Backend] = _module(kind).connect(options, on_quota=on_quota)
    return opened


def _module(kind: str) -> ModuleType:
    # Imported only here, so that a deployment never loads the SDK of a provider that it does not use.
    kinds = sorted(info.name for info in pkgutil.iter_modules(__path__) if not info.name.startswith("_"))
    if kind not in kinds:
        raise LookupError(f"no backend of kind {kind!r}; there are {', '.join(kinds)}")
    return import_module(f"{__name__}.{kind}")
