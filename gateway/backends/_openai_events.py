"""Cuts a body of server-sent events into events: https://html.spec.whatwg.org/multipage/server-sent-events.html.

The SDK makes objects of every event, most of which say nothing that is wanted here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

# Bytes of one event; the longest has the whole answer, of 128,000 tokens at most (gpt-5.5), with what was asked for.
_LONGEST = 8 << 20


class Event(NamedTuple):
    """One event: its type, empty where the server left it out, and its data."""

    type: bytes
    data: bytes


class EventTooLong(Exception):
    """An event has more bytes than any answer."""


class EventReader:
    """Takes the bytes of a body in whatever pieces they come."""

    def __init__(self) -> None:
        """Has seen nothing yet."""
        self._rest = bytearray()
        self._after_return = False
        self._type = b""
        self._data: list[bytes] = []
        self._length = 0

    def read(self, chunk: bytes) -> Iterator[Event]:
        """Gives the events that end within *chunk*; one that never ends is dropped, as the standard has it.

        Raises `EventTooLong`.
        """
        if self._after_return and chunk.startswith(b"\n"):
            # The other half of a line's end.
            chunk = chunk[1:]
        self._after_return = chunk.endswith(b"\r")
        if self._length + len(self._rest) > _LONGEST:
            raise EventTooLong
        self._rest += chunk
        if b"\n" not in chunk and b"\r" not in chunk:
            return
        lines = bytes(self._rest).splitlines()
        self._rest = bytearray(b"" if chunk.endswith((b"\n", b"\r")) else lines.pop())
        for line in lines:
            if line:
                self._field(line)
            else:
                if self._data:
                    yield Event(self._type, b"\n".join(self._data))
                self._type, self._data, self._length = b"", [], 0

    def _field(self, line: bytes) -> None:
        # Comments, ids and retry times say nothing about an answer.
        name, _, value = line.partition(b":")
        if name == b"data":
            self._data.append(value.removeprefix(b" "))
            self._length += len(value)
        elif name == b"event":
            self._type = value.removeprefix(b" ")
