"""Where the parts of one answer go."""

from __future__ import annotations

import asyncio
import time
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import triton_python_backend_utils as pb_utils

from gemma4_serving.thoughts import Splitter

if TYPE_CHECKING:
    from gemma4_serving.engines import Piece
    from gemma4_serving.metrics import Metrics

# Triton 24.10 dies when an error comes back before its gRPC front end has written down the request, and the client's
# connection closes after that (seen with `triton_grpc_error`; up to 1 in 30 such errors).
SOONEST_ERROR_S = 0.02


class Reply:
    """The way back to who asked; used on the event loop alone, but for its making.

    It is over with a piece that has a finish reason, or with `fail`.
    """

    def __init__(self, request: Any, metrics: Metrics) -> None:
        """*request* is the Python backend's."""
        self.streaming = False
        # What is told of the answer beside it, where Triton's responses have parameters.
        self.parameters: dict[str, Any] = {}
        self._sender = request.get_response_sender()
        self._metrics = metrics
        self._started = time.monotonic()
        self._splitter = Splitter()
        self._answer: list[str] = []
        self._thoughts: list[str] = []
        self._last: Piece | None = None
        self._over = False

    def is_cancelled(self) -> bool:
        """Tells whether the caller has gone before the answer was whole."""
        # Triton forgets the request with its final response: to ask about it after that is to read freed memory.
        return not self._over and bool(self._sender.is_cancelled())

    def add(self, piece: Piece) -> None:
        """Sends *piece*, or keeps it until the answer is whole where the caller does not stream."""
        if self._last is None and piece.output_tokens:
            first_s = time.monotonic() - self._started
            self._metrics.first_token(first_s)
            self.parameters["ttft_us"] = int(first_s * 1e6)
        self._last = piece
        splits = [self._splitter.push(piece.text)]
        if piece.finish_reason:
            splits.append(self._splitter.finish())
        self._answer += (split.answer for split in splits)
        self._thoughts += (split.thoughts for split in splits)
        if piece.finish_reason:
            self._metrics.ended("ok", input_tokens=piece.input_tokens, output_tokens=piece.output_tokens)
            self._send(self._response(piece), final=True)
        elif self.streaming and any((*self._answer, *self._thoughts)):
            self._send(self._response(piece), final=False)

    def fail(self, outcome: str, message: str, code: int) -> None:
        """Ends the answer with an error, no sooner than Triton can take it."""
        if self._over:
            return
        self._over = True
        read, written = (self._last.input_tokens, self._last.output_tokens) if self._last else (0, 0)
        self._metrics.ended(outcome, input_tokens=read, output_tokens=written)
        response = pb_utils.InferenceResponse(error=pb_utils.TritonError(message, code))
        wait_s = max(self._started + SOONEST_ERROR_S - time.monotonic(), 0.0)
        asyncio.get_running_loop().call_later(wait_s, lambda: self._send(response, final=True))

    def _response(self, piece: Piece) -> Any:
        values = (
            ("text_output", "".join(self._answer).encode(), np.object_),
            ("reasoning_output", "".join(self._thoughts).encode(), np.object_),
            ("finish_reason", piece.finish_reason.encode(), np.object_),
            ("num_input_tokens", piece.input_tokens, np.uint32),
            ("num_output_tokens", piece.output_tokens, np.uint32),
        )
        self._answer.clear()
        self._thoughts.clear()
        outputs = [pb_utils.Tensor(name, np.array([value], dtype=dtype)) for name, value, dtype in values]
        told = {"parameters": self.parameters} if piece.finish_reason and _has_parameters() else {}
        return pb_utils.InferenceResponse(outputs, **told)

    def _send(self, response: Any, *, final: bool) -> None:
        self._over = self._over or final
        self._sender.send(response, flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL if final else 0)


@cache
def _has_parameters() -> bool:
    try:
        pb_utils.InferenceResponse([], parameters={})
    except TypeError:  # Responses have no parameters in Triton 24.10.
        return False
    return True
