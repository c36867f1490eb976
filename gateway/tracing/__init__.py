"""What happens within a call, as spans of one trace.

Whoever does a piece of work opens a span around it with `span`; it becomes a child of the span that its call is in,
which tasks inherit. Where no trace is made, or this call's is not kept, nothing is made at all: `span` gives None.
Attributes hold names, figures and reasons, never anything of an image, a question, an answer or a key.
"""

from __future__ import annotations

from asyncio import CancelledError
from contextlib import nullcontext
from contextvars import ContextVar
from typing import TYPE_CHECKING, Protocol, TypeAlias

from gateway.errors import GatewayError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from contextlib import AbstractContextManager
    from contextvars import Token
    from types import TracebackType

    Metadata: TypeAlias = Iterable[tuple[str, str | bytes]] | None

Value: TypeAlias = "str | int | float | bool"


class Span(Protocol):
    """One piece of work of a call."""

    @property
    def trace_id(self) -> str:
        """The trace that it belongs to: 32 hexadecimal digits."""
        ...

    @property
    def is_kept(self) -> bool:
        """Whether the trace was drawn to be exported; of one that was not, there is no span but the call's own."""
        ...

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        """What tells whoever is called which span called: W3C `traceparent`, and `tracestate` where there is one."""
        ...

    def child(self, name: str, *, is_client: bool) -> Span:
        """Starts a span within this one; *is_client* says that another program does the work."""
        ...

    def set(self, attributes: Mapping[str, Value]) -> None:
        """Says more about the work."""
        ...

    def event(self, name: str, attributes: Mapping[str, Value]) -> None:
        """Says what happened at this moment."""
        ...

    def fail(self, reason: str, *, is_error: bool = True) -> None:
        """Says why the work was in vain; *is_error* is false where nobody is to blame, such as for a cancellation."""
        ...

    def end(self) -> None:
        """Ends the work; nothing is said about it afterwards."""
        ...


class Tracer(Protocol):
    """Starts the trace of each call."""

    def call(self, rpc: str, metadata: Metadata) -> Span:
        """Starts the span of a call of *rpc*, within the caller's own if *metadata* names one."""
        ...


_current: ContextVar[Span | None] = ContextVar("span", default=None)
_nothing: AbstractContextManager[None] = nullcontext()


def current() -> Span | None:
    """Gives the span that this call is in, kept or not; None where no traces are made."""
    return _current.get()


def kept() -> Span | None:
    """Gives the span that this call is in, if it is kept."""
    span = _current.get()
    return span if span is not None and span.is_kept else None


def call(tracer: Tracer | None, rpc: str, metadata: Metadata) -> AbstractContextManager[Span | None]:
    """Puts a call in a span of its own. How the call ended is for whoever answers it to say."""
    return _nothing if tracer is None else _Within(tracer.call(rpc, metadata), tells=False)


def span(name: str, *, is_client: bool = False) -> AbstractContextManager[Span | None]:
    """Puts a piece of work in a span within the current one; what it raises is told by its reason alone."""
    parent = kept()
    return _nothing if parent is None else _Within(parent.child(name, is_client=is_client))


def under(parent: Span | None, name: str) -> AbstractContextManager[Span | None]:
    """Puts work in a span within *parent*, whichever call's task it is done in; without one, it is in none."""
    return _Within(None if parent is None else parent.child(name, is_client=False))


def event(name: str, **attributes: Value) -> None:
    """Says of the current span what happened at this moment."""
    if parent := kept():
        parent.event(name, {f"vision_gateway.{key}": value for key, value in attributes.items()})


def exemplar() -> dict[str, str] | None:
    """Gives what leads from a figure of the metrics to the trace of this call, if it is kept."""
    return {"trace_id": parent.trace_id} if (parent := kept()) else None


class _Within:
    """Makes a span the current one, and ends it."""

    __slots__ = ("_before", "_span", "_tells")

    def __init__(self, span: Span | None, *, tells: bool = True) -> None:
        """*tells* says that an exception is told as the span's failure. Without a *span* there is none meanwhile."""
        self._span = span
        self._tells = tells
        self._before: Token[Span | None] | None = None

    def __enter__(self) -> Span | None:
        self._before = _current.set(self._span)
        return self._span

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._before is not None:
            _current.reset(self._before)
        if self._span is None:
            return
        if exc is not None and self._tells:
            self._span.fail(_reason(exc), is_error=not isinstance(exc, CancelledError))
        self._span.end()


def _reason(exc: BaseException) -> str:
    if isinstance(exc, GatewayError):
        return exc.reason
    return "CANCELLED" if isinstance(exc, CancelledError) else "INTERNAL"
