"""The model as Triton's Python backend calls it."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import triton_python_backend_utils as pb_utils

from gemma4_serving.engines import Engine, InvalidJobError, open_engine
from gemma4_serving.metrics import Metrics
from gemma4_serving.reply import SOONEST_ERROR_S, Reply
from gemma4_serving.request import Asked, Limits, read

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping, Sequence

_BESIDE_MODEL_PY = Path(__file__).parents[1]
# Seconds between two looks at who has gone; the contract allows 0.1.
_POLL_S = 0.05
_READY_S = 2.0


class TritonPythonModel:
    """One instance; its engine and all answers live on an event loop of their own.

    Triton's queue sees nothing of a model that answers by itself, so the limit of requests in flight is kept here.
    """

    def initialize(self, args: Mapping[str, str]) -> None:
        """Loads the engine; raises, so that Triton does not serve the model, when it cannot be loaded."""
        started = time.monotonic()
        parameters = {key: each["string_value"] for key, each in json.loads(args["model_config"])["parameters"].items()}
        self._limits = Limits(
            max_images=int(parameters["max_images"]),
            max_pixels=int(parameters["max_pixels"]),
        )
        self._max_in_flight = int(parameters["max_in_flight"])
        self._tasks: dict[asyncio.Task[None], Reply] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._engine: Engine = self._run(open_engine(parameters["engine"], _options(parameters["engine_options"])))
        self._metrics = Metrics(
            max_in_flight=self._max_in_flight, image_token_budget=self._engine.effective_budget(None)
        )
        self._watching = asyncio.run_coroutine_threadsafe(self._watch(), self._loop)
        took_s = time.monotonic() - started
        pb_utils.Logger.log_info(f"gemma4: the engine {self._engine.name} was loaded in {took_s:.1f} s")

    def execute(self, requests: Sequence[Any]) -> None:
        """Takes requests in, and returns at once."""
        for request in requests:
            reply = Reply(request, self._metrics)
            try:
                asked = read(partial(_tensor, request), json.loads(request.parameters() or "{}"), self._limits)
            except InvalidJobError as error:
                self._loop.call_soon_threadsafe(reply.fail, "invalid", str(error), pb_utils.TritonError.INVALID_ARG)
            else:
                self._loop.call_soon_threadsafe(self._accept, reply, asked, request.request_id())

    def is_ready(self) -> bool:
        """Tells whether the engine still works; newer Tritons than 24.10 ask it."""
        try:
            return asyncio.run_coroutine_threadsafe(self._engine.is_ready(), self._loop).result(_READY_S)
        except Exception:  # noqa: BLE001 - whatever an engine fails with, it is not ready
            return False

    def finalize(self) -> None:
        """Aborts what is in flight and frees the engine."""
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._metrics.close()

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _accept(self, reply: Reply, asked: Asked, request_id: str) -> None:
        if len(self._tasks) >= self._max_in_flight:
            reply.fail("overloaded", "too many requests in flight", pb_utils.TritonError.UNAVAILABLE)
            return
        task = self._loop.create_task(self._answer(reply, asked, request_id))
        self._tasks[task] = reply
        self._metrics.in_flight(len(self._tasks))
        task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task[None]) -> None:
        reply = self._tasks.pop(task)
        if task.cancelled():  # Perhaps before its first step, so that it cannot say so itself.
            reply.fail("cancelled", "cancelled", pb_utils.TritonError.CANCELLED)
        self._metrics.in_flight(len(self._tasks))

    async def _answer(self, reply: Reply, asked: Asked, request_id: str) -> None:
        reply.streaming = asked.streaming
        try:
            job = await asyncio.to_thread(asked.job, request_id, self._limits)
            reply.parameters |= {
                "engine": self._engine.name,
                "effective_budget": self._engine.effective_budget(job.image_token_budget),
            }
            async with aclosing(self._engine.generate(job)) as pieces:
                async for piece in pieces:
                    reply.add(piece)
        except InvalidJobError as error:
            reply.fail("invalid", str(error), pb_utils.TritonError.INVALID_ARG)
        except Exception as error:  # noqa: BLE001 - a bug must not leave the caller waiting
            # Its own words may hold what was in the request.
            pb_utils.Logger.log_error(f"gemma4: {type(error).__name__} at {_place(error)}")
            reply.fail("failed", "the model failed", pb_utils.TritonError.INTERNAL)
        else:
            # Without effect after a last piece.
            reply.fail("failed", "the model's answer broke off", pb_utils.TritonError.INTERNAL)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_POLL_S)
            for task, reply in self._tasks.items():
                if not task.cancelling() and reply.is_cancelled():
                    task.cancel()

    async def _close(self) -> None:
        self._watching.cancel()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await asyncio.sleep(2 * SOONEST_ERROR_S)  # For errors that are still to be sent.
        await self._engine.close()


def _tensor(request: Any, name: str) -> Any:
    tensor = pb_utils.get_input_tensor_by_name(request, name)
    return None if tensor is None else tensor.as_numpy()


def _options(name: str) -> Mapping[str, Any]:
    if not name:
        return {}
    path = _BESIDE_MODEL_PY / name
    if path.suffix == ".json":
        options = json.loads(path.read_text())
    else:
        import yaml  # noqa: PLC0415 - not every engine's image has it

        options = yaml.safe_load(path.read_text())
    if not isinstance(options, dict):
        raise TypeError(f"{path} holds no mapping")
    return options


def _place(error: BaseException) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else "an unknown place"
