"""Tells thoughts from the answer in what Gemma 4 writes.

Format: `<|channel>thought` and a line's end, the thoughts, `<channel|>`, the answer, `<turn|>`
(https://ai.google.dev/gemma/docs/core/prompt-formatting-gemma4).
"""

from __future__ import annotations

from typing import NamedTuple

from gemma4_serving.borders import cut_marker

_OPEN = "<|channel>"
_CLOSE = "<channel|>"
_NAME = "thought\n"
_ENDS = ("<turn|>", "<eos>", "<pad>")


class Split(NamedTuple):
    """What is new of each."""

    answer: str
    thoughts: str


class Splitter:
    """Splits one reply, piece by piece. What may yet turn out to be a control token is kept until it is clear."""

    def __init__(self) -> None:
        self._pending = ""
        self._thinking = False
        self._named = False

    def push(self, text: str) -> Split:
        """Takes the next piece."""
        self._pending += text
        answer: list[str] = []
        thoughts: list[str] = []
        while True:
            if self._thinking and not self._named and not self._take_name():
                break
            marker = _CLOSE if self._thinking else _OPEN
            before, found, after = self._pending.partition(marker)
            if not found:
                before, after = self._settled()
            (thoughts if self._thinking else answer).append(before)
            self._pending = after
            if not found:
                break
            self._thinking = not self._thinking
            self._named = False
        return Split("".join(answer), "".join(thoughts))

    def finish(self) -> Split:
        """Gives the rest of a reply that has ended; end-of-turn tokens at its end are dropped."""
        rest, self._pending = _without_ends(self._pending), ""
        return Split("", rest) if self._thinking else Split(rest, "")

    def _take_name(self) -> bool:
        if len(self._pending) < len(_NAME) and _NAME.startswith(self._pending):
            return False
        self._pending = self._pending.removeprefix(_NAME)
        self._named = True
        return True

    def _settled(self) -> tuple[str, str]:
        markers = (_CLOSE, *_ENDS) if self._thinking else (_OPEN, *_ENDS)
        cut = len(self._pending) - cut_marker(self._pending, markers)
        # The same characters within an answer are text, such as a page about tokens that was read.
        settled = _without_ends(self._pending[:cut])
        return settled, self._pending[len(settled) :]


def _without_ends(text: str) -> str:
    while text.endswith(_ENDS):
        text = next(text.removesuffix(end) for end in _ENDS if text.endswith(end))
    return text
