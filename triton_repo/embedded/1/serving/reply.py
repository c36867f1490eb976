"""Where the one answer of a request goes."""

from __future__ import annotations

import json
import queue
import threading
import time
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import triton_python_backend_utils as pb_utils

if TYPE_CHECKING:
    from collections.abc import Mapping

    from serving.metrics import Metrics

# Triton 24.10 dies when an error comes back before its gRPC front end has written down the request, and the client's
# connection closes after that (seen with `triton_grpc_error`; up to 1 in 30 such errors).
_SOONEST_ERROR_S = 0.02


class Errors:
    """Sends errors, none of them sooner than Triton can take it."""

    def __init__(self) -> None:
        self._waiting: queue.SimpleQueue[tuple[Reply, Any] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def send(self, reply: Reply, response: Any) -> None:
        """Sends *response* in time, and returns at once."""
        self._waiting.put((reply, response))

    def close(self) -> None:
        """Returns when all errors are sent."""
        self._waiting.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (waiting := self._waiting.get()) is not None:
            reply, response = waiting
            time.sleep(max(reply.started + _SOONEST_ERROR_S - time.monotonic(), 0.0))
            reply.send_final(response)


class Reply:
    """The way back to who asked. Exactly one of `answer`, `fail` and `cancelled` is called, once."""

    def __init__(self, request: Any, metrics: Metrics, errors: Errors) -> None:
        """*request* is the Python backend's."""
        self.rpc: object = None
        self.started = time.monotonic()
        self._sender = request.get_response_sender()
        self._metrics = metrics
        self._errors = errors
        # Triton forgets the request with its final response: to ask about it after that is to read freed memory.
        self._lock = threading.Lock()
        self._sent = False

    def is_cancelled(self) -> bool:
        """Tells whether the caller has gone before the answer."""
        with self._lock:
            return not self._sent and bool(self._sender.is_cancelled())

    def answer(self, outcome: str, answer: Mapping[str, Any]) -> None:
        """Sends a complete answer."""
        text = json.dumps(answer, ensure_ascii=False)
        outputs = [
            pb_utils.Tensor("text_output", np.array([text.encode()], dtype=np.object_)),
            pb_utils.Tensor("reasoning_output", np.array([b""], dtype=np.object_)),
            pb_utils.Tensor("finish_reason", np.array([b"stop"], dtype=np.object_)),
            pb_utils.Tensor("num_input_tokens", np.array([0], dtype=np.uint32)),
            pb_utils.Tensor("num_output_tokens", np.array([0], dtype=np.uint32)),
        ]
        self._metrics.count(self.rpc, outcome)
        self.send_final(pb_utils.InferenceResponse(outputs, **_parameters()))

    def fail(self, outcome: str, message: str, code: int) -> None:
        """Sends an error."""
        self._metrics.count(self.rpc, outcome)
        self._errors.send(self, pb_utils.InferenceResponse(error=pb_utils.TritonError(message, code)))

    def cancelled(self, where: str) -> None:
        """Gives the request back to Triton; *where* says for the log what the cancel ended."""
        elapsed_ms = (time.monotonic() - self.started) * 1000
        pb_utils.Logger.log_info(f"embedded: a request was cancelled after {elapsed_ms:.0f} ms, {where}")
        self.fail("cancelled", "cancelled", pb_utils.TritonError.CANCELLED)

    def send_final(self, response: Any) -> None:
        """Sends the one response."""
        with self._lock:
            self._sent = True
            self._sender.send(response, flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)


@cache
def _parameters() -> dict[str, Any]:
    parameters = {"parameters": {"engine": "embedded"}}
    try:
        pb_utils.InferenceResponse([], **parameters)
    except TypeError:  # Responses have no parameters in Triton 24.10.
        return {}
    return parameters
