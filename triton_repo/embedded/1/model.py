"""Serves the small vision model for CPUs on Triton, over wire contract v1 (`contract.json` in this repository)."""

from __future__ import annotations

import json
import os
import threading
import time
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import triton_python_backend_utils as pb_utils

from cpu_vision import look, rpcs
from cpu_vision.outcomes import CancelledError, InvalidRequestError, UnsupportedError
from cpu_vision.workers import Workers

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from cpu_vision.look import Networks
    from cpu_vision.stop import Stop

_CONTRACT = 1
_MAX_WORKERS = 8
_MAX_QUERY_BYTES = 256 << 10
_OUTCOMES = ("ok", "unsupported", "invalid", "cancelled", "overloaded", "failed")


class TritonPythonModel:
    """One instance, with a worker thread for each core; requests wait in a queue of its own, which is bounded."""

    def initialize(self, args: Mapping[str, str]) -> None:
        """Loads the networks; raises, so that Triton does not serve the model, when a file is not what it should be."""
        started = time.monotonic()
        parameters = json.loads(args["model_config"])["parameters"]
        workers = int(parameters["workers"]["string_value"]) or min(len(os.sched_getaffinity(0)), _MAX_WORKERS)
        self._metrics = Metrics()
        self._workers: Workers[Networks] = Workers(
            look.load(workers),
            max_in_flight=int(parameters["max_in_flight"]["string_value"]),
            on_change=self._metrics.in_flight,
        )
        pb_utils.Logger.log_info(f"embedded: loaded for {workers} workers in {time.monotonic() - started:.1f} s")

    def execute(self, requests: Sequence[Any]) -> None:
        """Hands requests to the workers, which answer them; returns at once."""
        for request in requests:
            self._accept(request)

    def finalize(self) -> None:
        """Drops what waits and ends the workers."""
        self._workers.close()

    def _accept(self, request: Any) -> None:
        reply = Reply(request, self._metrics)
        try:
            job = Job(reply, *_read(request))
        except InvalidRequestError as error:
            reply.fail("invalid", str(error), pb_utils.TritonError.INVALID_ARG)
            return
        if not self._workers.submit(job):
            reply.fail("overloaded", "too many requests in flight", pb_utils.TritonError.UNAVAILABLE)


class Job:
    """One request, read."""

    def __init__(self, reply: Reply, query: Mapping[str, Any], images: Sequence[bytes]) -> None:
        self._reply = reply
        self._query = query
        self._images = images
        reply.rpc = query.get("rpc")
        self.is_cancelled: Callable[[], bool] = reply.is_cancelled

    def run(self, networks: Networks, stop: Stop) -> None:
        """Answers, or says why not."""
        try:
            self._answer(networks, stop)
        except UnsupportedError as error:
            self._reply.send("unsupported", {"unsupported": {"reason": error.reason, "message": error.message}})
        except InvalidRequestError as error:
            self._reply.fail("invalid", str(error), pb_utils.TritonError.INVALID_ARG)
        except CancelledError:
            self._reply.cancelled("at work")
        except Exception as error:  # noqa: BLE001 - a bug must not leave the caller waiting
            # Its own words may hold what was in the picture.
            pb_utils.Logger.log_error(f"embedded: {type(error).__name__} at {_place(error)}")
            self._reply.fail("failed", "the model failed", pb_utils.TritonError.INTERNAL)

    def _answer(self, networks: Networks, stop: Stop) -> None:
        stop.check()
        look_at = partial(look.Look, networks, self._images[0], stop)
        answer = rpcs.answer(self._query, look_at, len(self._images))
        stop.check()
        self._reply.send("ok", answer)

    def drop(self) -> None:
        """Ends the request unanswered."""
        self._reply.cancelled("waiting")


class Reply:
    """Where the one answer of a request goes."""

    def __init__(self, request: Any, metrics: Metrics) -> None:
        self.rpc: object = None
        self._sender = request.get_response_sender()
        self._metrics = metrics
        self._started = time.monotonic()
        # Triton forgets the request with its final response: to ask about it after that is to read freed memory.
        self._lock = threading.Lock()
        self._sent = False

    def is_cancelled(self) -> bool:
        """Tells whether the caller has gone before the answer."""
        with self._lock:
            return not self._sent and bool(self._sender.is_cancelled())

    def send(self, outcome: str, answer: Mapping[str, Any]) -> None:
        """Sends a complete answer."""
        text = json.dumps(answer, ensure_ascii=False)
        outputs = [
            pb_utils.Tensor("text_output", np.array([text.encode()], dtype=np.object_)),
            pb_utils.Tensor("reasoning_output", np.array([b""], dtype=np.object_)),
            pb_utils.Tensor("finish_reason", np.array([b"stop"], dtype=np.object_)),
            pb_utils.Tensor("num_input_tokens", np.array([0], dtype=np.uint32)),
            pb_utils.Tensor("num_output_tokens", np.array([0], dtype=np.uint32)),
        ]
        self._finish(outcome, pb_utils.InferenceResponse(outputs, **_parameters()))

    def fail(self, outcome: str, message: str, code: int) -> None:
        """Sends an error."""
        self._finish(outcome, pb_utils.InferenceResponse(error=pb_utils.TritonError(message, code)))

    def cancelled(self, where: str) -> None:
        """Gives the request back to Triton; *where* says for the log what the cancel ended."""
        elapsed_ms = (time.monotonic() - self._started) * 1000
        pb_utils.Logger.log_info(f"embedded: a request was cancelled after {elapsed_ms:.0f} ms, {where}")
        self.fail("cancelled", "cancelled", pb_utils.TritonError.CANCELLED)

    def _finish(self, outcome: str, response: Any) -> None:
        self._metrics.count(self.rpc, outcome)
        with self._lock:
            self._sent = True
            self._sender.send(response, flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)


class Metrics:
    """What Triton cannot know of a model that answers by itself; shown among Triton's own metrics."""

    def __init__(self) -> None:
        # A metric lives no longer than its family.
        self._families = (
            pb_utils.MetricFamily(
                "vision_embedded_requests_total",
                "Requests that have ended, by RPC and outcome",
                pb_utils.MetricFamily.COUNTER,
            ),
            pb_utils.MetricFamily(
                "vision_embedded_in_flight", "Requests at work and waiting", pb_utils.MetricFamily.GAUGE
            ),
        )
        requests, in_flight = self._families
        self._requests = {
            (rpc, outcome): requests.Metric(labels={"rpc": rpc, "outcome": outcome})
            for rpc in (*rpcs.NAMES, "other")
            for outcome in _OUTCOMES
        }
        self._in_flight = in_flight.Metric(labels={})

    def count(self, rpc: object, outcome: str) -> None:
        """Counts a request that has ended."""
        self._requests[rpc if rpc in rpcs.NAMES else "other", outcome].increment(1)

    def in_flight(self, count: int) -> None:
        """Tells how many requests are in flight."""
        self._in_flight.set(count)


def _read(request: Any) -> tuple[Mapping[str, Any], list[bytes]]:
    parameters = json.loads(request.parameters() or "{}")
    if parameters.get("contract", _CONTRACT) != _CONTRACT:
        raise InvalidRequestError(f"only contract {_CONTRACT} is spoken")
    (text,) = _strings(request, "text_input")
    images = _strings(request, "image_bytes")
    if len(text) > _MAX_QUERY_BYTES:
        raise InvalidRequestError(f"the query has {len(text)} bytes; at most {_MAX_QUERY_BYTES} are taken")
    try:
        query = json.loads(text)
    except ValueError as error:
        raise InvalidRequestError("the query is not JSON") from error
    if not isinstance(query, dict):
        raise InvalidRequestError("the query is not a JSON object")
    query.setdefault("rpc", parameters.get("task"))
    return query, images


def _strings(request: Any, name: str) -> list[bytes]:
    # Triton counts a request's inputs and does not look at their names.
    tensor = pb_utils.get_input_tensor_by_name(request, name)
    values = [] if tensor is None else [bytes(value) for value in tensor.as_numpy().reshape(-1)]
    if not values:
        raise InvalidRequestError(f"the required input '{name}' is missing")
    return values


@cache
def _parameters() -> dict[str, Any]:
    parameters = {"parameters": {"engine": "embedded"}}
    try:
        pb_utils.InferenceResponse([], **parameters)
    except TypeError:  # Responses have no parameters in Triton 24.10.
        return {}
    return parameters


def _place(error: BaseException) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else "an unknown place"
