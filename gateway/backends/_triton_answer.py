"""Gathers an answer that comes in parts, in wire contract v1."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, TypeVar

from gateway.domain import Completion
from gateway.errors import BrokenOff, GatewayError, TruncatedAnswer, UnusableAnswer
from gateway.usage import Usage

if TYPE_CHECKING:
    from tritonclient.grpc import service_pb2

_ErrorT = TypeVar("_ErrorT", bound=GatewayError)
_LENGTH = struct.Struct("<I")


class PartialAnswer:
    """What has come of one answer so far."""

    def __init__(self, *, image_tokens: int) -> None:
        """*image_tokens* is the images' share of the input, by the family's own rule."""
        self.final = False
        self._image_tokens = image_tokens
        self._texts: list[bytes] = []
        self._finish_reason = b""
        self._counts: tuple[int, int] | None = None
        self._model = ""
        self._first_s: float | None = None
        self._told_first_s: float | None = None

    def add(self, reply: service_pb2.ModelInferResponse, elapsed_s: float) -> bytes:
        """Takes the next part, which came *elapsed_s* seconds after the call began, and gives its text.

        It may be empty.
        """
        outputs = dict(zip((output.name for output in reply.outputs), reply.raw_output_contents, strict=False))
        if text := _string(outputs.get("text_output")):
            self._texts.append(text)
            if self._first_s is None:
                self._first_s = elapsed_s
        self._finish_reason = _string(outputs.get("finish_reason")) or self._finish_reason
        read, written = outputs.get("num_input_tokens"), outputs.get("num_output_tokens")
        if read and written:
            self._counts = (int.from_bytes(read, "little"), int.from_bytes(written, "little"))
        if reply.parameters["triton_final_response"].bool_param:
            self.final = True
            self._model = "/".join(filter(None, (reply.model_name, reply.model_version)))
            if told_us := reply.parameters["ttft_us"].int64_param:
                self._told_first_s = told_us / 1e6
        return text

    @property
    def told(self) -> bool:
        """Whether the model has told its token counts."""
        return self._counts is not None

    def usage(self) -> Usage:
        """Counts by the model's own figures; when it told none, the images alone are known."""
        if self._counts is None:
            return Usage(input_image=self._image_tokens)
        read, written = self._counts
        return Usage.billed(input_total=read, output_total=written, image=self._image_tokens)

    def billed(self, error: _ErrorT) -> _ErrorT:
        """Has *error* tell what was used, and whether the model itself has told that."""
        error.usage, error.estimated = self.usage(), not self.told
        return error

    def completion(self) -> Completion:
        """Gives the answer when it is whole.

        Raises `TruncatedAnswer` when it was cut by the token limit, `BrokenOff` when by a stream that ended too early,
        and `UnusableAnswer` when it is no text.
        """
        if not self._finish_reason:
            raise self.billed(BrokenOff("the model's answer broke off"))
        if self._finish_reason == b"length":
            raise self.billed(TruncatedAnswer("the answer reached the limit of output tokens"))
        try:
            text = b"".join(self._texts).decode()
        except UnicodeDecodeError as error:
            raise self.billed(UnusableAnswer("the model's answer is not text")) from error
        return Completion(
            text,
            self.usage(),
            provider_model=self._model,
            estimated=not self.told,
            time_to_first_token_s=self._time_to_first_token_s,
        )

    @property
    def _time_to_first_token_s(self) -> float | None:
        # The arrival of an answer in one part says nothing about its first token.
        return self._told_first_s or (self._first_s if len(self._texts) > 1 else None)


def _string(raw: bytes | None) -> bytes:
    return raw[_LENGTH.size :] if raw else b""
