"""How a request can end without an answer."""

from __future__ import annotations


class UnsupportedError(Exception):
    """The model cannot do what was asked; the message says so to people, and says what it can do."""

    def __init__(self, reason: str, message: str) -> None:
        """*reason* is one of a closed set: rpc, images, labels, prompt, language, question, schema."""
        super().__init__(message)
        self.reason = reason
        self.message = message


class InvalidRequestError(Exception):
    """The request is not well formed; the message names the part at fault."""


class InvalidImageError(InvalidRequestError):
    """The image is too large, of a format that is not taken, or cannot be decoded."""


class CancelledError(Exception):
    """The caller has gone; nobody waits for the answer."""
