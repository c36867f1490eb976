"""Serves the small vision model for CPUs on Triton, over wire contract v1 (`contract.json` in this repository)."""

from __future__ import annotations

import json
import os
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import triton_python_backend_utils as pb_utils

from cpu_vision import look, rpcs
from cpu_vision.outcomes import CancelledError, InvalidRequestError, UnsupportedError
from cpu_vision.workers import Workers
from serving.metrics import Metrics
from serving.reply import Errors, Reply

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from cpu_vision.look import Networks
    from cpu_vision.stop import Stop

_CONTRACT = 1
_MAX_WORKERS = 8
_MAX_QUERY_BYTES = 256 << 10


class TritonPythonModel:
    """One instance, with a worker thread for each core; requests wait in a queue of its own, which is bounded."""

    def initialize(self, args: Mapping[str, str]) -> None:
        """Loads the networks; raises, so that Triton does not serve the model, when a file is not what it should be."""
        started = time.monotonic()
        parameters = json.loads(args["model_config"])["parameters"]
        workers = int(parameters["workers"]["string_value"]) or min(len(os.sched_getaffinity(0)), _MAX_WORKERS)
        networks = look.load(workers)
        self._metrics = Metrics(rpcs.NAMES)
        self._errors = Errors()
        self._workers: Workers[Networks] = Workers(
            networks,
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
        self._errors.close()
        self._metrics.close()

    def _accept(self, request: Any) -> None:
        reply = Reply(request, self._metrics, self._errors)
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
        """*images* are encoded, at least one."""
        self._reply = reply
        self._query = query
        self._images = images
        reply.rpc = query.get("rpc")
        self.is_cancelled: Callable[[], bool] = reply.is_cancelled

    def run(self, networks: Networks, stop: Stop) -> None:
        """Answers, or says why not."""
        try:
            self._reply.answer("ok", self._answer(networks, stop))
        except UnsupportedError as error:
            self._reply.answer("unsupported", {"unsupported": {"reason": error.reason, "message": error.message}})
        except InvalidRequestError as error:
            self._reply.fail("invalid", str(error), pb_utils.TritonError.INVALID_ARG)
        except CancelledError:
            self._reply.cancelled("at work")
        except Exception as error:  # noqa: BLE001 - a bug must not leave the caller waiting
            # Its own words may hold what was in the picture.
            pb_utils.Logger.log_error(f"embedded: {type(error).__name__} at {_place(error)}")
            self._reply.fail("failed", "the model failed", pb_utils.TritonError.INTERNAL)

    def drop(self) -> None:
        """Ends the request unanswered."""
        self._reply.cancelled("waiting")

    def _answer(self, networks: Networks, stop: Stop) -> Mapping[str, Any]:
        stop.check()
        answer = rpcs.answer(self._query, partial(look.Look, networks, self._images[0], stop), len(self._images))
        stop.check()
        return answer


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
    except (ValueError, RecursionError) as error:
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


def _place(error: BaseException) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else "an unknown place"
