"""Reads what the Responses API streams: text as it is written, and last the whole response."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import orjson

from gateway.backends._openai_answer import broken_off, estimated, late, read, word
from gateway.backends._openai_errors import INSIDE_200, failure
from gateway.backends._openai_events import Event, EventReader, EventTooLong
from gateway.errors import GatewayError, Refused, UnusableAnswer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gateway.domain import Completion, Prompt, SentImage

_ErrorT = TypeVar("_ErrorT", bound=GatewayError)
_DELTA, _REFUSAL, _ERROR = "response.output_text.delta", "response.refusal.delta", "error"
# Each has the whole response, whose own status is the last word of it.
_ENDS = {f"response.{status}": status for status in ("completed", "incomplete", "failed", "cancelled")}
# What else there is repeats these, or tells the model's thoughts.
_READ = frozenset(name.encode() for name in (_DELTA, _REFUSAL, _ERROR, *_ENDS, ""))
# Some compatible servers end with this, as the older Chat Completions API does.
_DONE = b"[DONE]"


def is_stream(content_type: str) -> bool:
    """Tells whether a server does stream; compatible ones may answer as if they had not been asked to."""
    return content_type.partition(";")[0].strip().lower() == "text/event-stream"


class StreamedAnswer:
    """One answer while it comes."""

    def __init__(self, prompt: Prompt, images: Sequence[SentImage], *, model: str) -> None:
        """*model* is what was asked, in the provider's words."""
        self._prompt = prompt
        self._images = images
        self._model = model
        self._events = EventReader()
        self._said: list[str] = []
        self._half = ""
        self._refusing = False
        self._first_s: float | None = None
        self._whole: Completion | None = None
        self.ended = False

    def add(self, chunk: bytes, elapsed_s: float) -> Iterator[str]:
        """Takes the next bytes, which came *elapsed_s* seconds after the call began, and gives the text in them.

        Raises what the provider says went wrong, or `UnusableAnswer` for what it cannot have meant, be it the first
        event or a later one: the same model would say it again.
        """
        try:
            for event in self._events.read(chunk):
                if self.ended:
                    return
                if event.data == _DONE:
                    self.ended = True
                elif event.data and event.type in _READ and (text := self._take(event)):
                    if self._first_s is None:
                        self._first_s = elapsed_s
                    self._said.append(text)
                    yield text
        except EventTooLong as error:
            raise self._estimated(UnusableAnswer("the provider's answer has an event that is too long")) from error
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise self._estimated(UnusableAnswer("the provider's answer has an event that is not JSON")) from error

    @property
    def differs(self) -> bool:
        """Whether the text that came piece by piece is another than that of the whole response."""
        return self._whole is not None and self._whole.text != self._text

    def completion(self) -> Completion:
        """Gives the answer once the stream has ended, with the whole response's text where the two differ.

        A stream without the whole response was cut: after some text `BrokenOff`; before it nothing is lost, and
        it is `BackendUnavailable`. Both are estimated to have been billed.
        """
        if self._whole is not None:
            return replace(self._whole, time_to_first_token_s=self._first_s)
        if self._refusing:
            raise self._estimated(Refused("the model refused to answer"))
        raise broken_off(self._prompt, self._images, self._text)

    def late(self) -> GatewayError:
        """What it is when time is up."""
        return late(self._prompt, self._images, self._text)

    @property
    def _text(self) -> str:
        return "".join(self._said)

    def _take(self, event: Event) -> str:
        told = _loads(event.data)
        if not isinstance(told, dict):
            raise self._estimated(UnusableAnswer("the provider's answer has an event that is none"))
        name = word(told, "type") or event.type.decode()
        if name == _DELTA:
            return self._characters(word(told, "delta"))
        if name == _REFUSAL:
            self._refusing = True
        elif name in _ENDS:
            self.ended = True
            self._whole = read(self._response(told, _ENDS[name]), self._prompt, self._images, model=self._model)
        elif name == _ERROR or (not name and "error" in told):
            # Some servers put it as they do in the body of an HTTP error.
            code = word(told, "code") or word(told.get("error"), "code")
            raise failure(INSIDE_200, code, {}).error
        return ""

    def _characters(self, text: str) -> str:
        """Joins the halves of a character that a server which counts in UTF-16, such as one in JavaScript, cut."""
        if text.isascii() and not self._half:
            return text
        text = self._half + text
        self._half = text[-1:] if "\ud800" <= text[-1:] <= "\udbff" else ""
        whole = text[: len(text) - len(self._half)]
        return whole.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")

    def _response(self, event: dict[str, Any], status: str) -> dict[str, Any]:
        """Gives the whole response; a server that leaves out what it has said already shall not be taken at that."""
        told = event.get("response")
        response: dict[str, Any] = told if isinstance(told, dict) else {}
        parts = [{"type": "output_text", "text": self._text}, *[{"type": "refusal"}] * self._refusing]
        said = [{"type": "message", "content": parts}]
        return {**response, "status": word(response, "status") or status, "output": response.get("output") or said}

    def _estimated(self, error: _ErrorT) -> _ErrorT:
        return estimated(error, self._prompt, self._images, self._text)


def _loads(data: bytes) -> object:
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        # It may be right all the same: orjson takes no half of a character.
        return json.loads(data)
