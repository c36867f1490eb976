"""Gemma 4 by vLLM's asynchronous engine (0.19.1 or newer).

Options are the arguments of vLLM's `AsyncEngineArgs`. The image budget is set per request.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from transformers import AutoProcessor
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.sampling_params import RequestOutputKind, SamplingParams, StructuredOutputsParams
from vllm.v1.engine.async_llm import AsyncLLM

from gemma4_serving.chat import prompt_of, sampling_of
from gemma4_serving.engines import InvalidJobError, Job, Piece

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

_HEALTH_S = 1.0


async def open_engine(options: Mapping[str, Any]) -> VllmEngine:
    """Loads the checkpoint onto the GPUs; blocks the loop, on which nothing else is at work yet."""
    processor = AutoProcessor.from_pretrained(options["model"])
    budget = (options.get("mm_processor_kwargs") or {}).get("max_soft_tokens")
    return VllmEngine(AsyncLLM.from_engine_args(AsyncEngineArgs(**options)), processor, budget)


class VllmEngine:
    """One `AsyncLLM`, which batches the jobs in flight by itself."""

    name = "vllm"

    def __init__(self, llm: Any, processor: Any, budget: int | None = None) -> None:
        """*budget* is the deployment's soft tokens per image; None is the checkpoint's."""
        self._llm = llm
        self._processor = processor
        self._budget = budget or int(processor.image_processor.max_soft_tokens)

    async def generate(self, job: Job) -> AsyncGenerator[Piece, None]:
        """Yields what each step adds; raises RuntimeError where the engine gave a job up."""
        prompt: dict[str, Any] = {"prompt": prompt_of(self._processor, job)}
        if job.images:
            prompt["multi_modal_data"] = {"image": list(job.images)}
            if job.image_token_budget is not None:
                prompt["mm_processor_kwargs"] = {"max_soft_tokens": job.image_token_budget}
        try:
            sampling = SamplingParams(
                **sampling_of(job), output_kind=RequestOutputKind.DELTA, structured_outputs=_guide(job)
            )
        except ValueError as error:
            raise InvalidJobError("the engine does not take these parameters") from error
        steps = self._llm.generate(
            prompt,
            sampling,
            job.request_id,
            # The template writes the first token, so the tokenizer must not.
            tokenization_kwargs={"add_special_tokens": False},
        )
        written = 0
        begun = False
        try:
            async for step in steps:
                begun = True
                output = step.outputs[0]
                reason = output.finish_reason or ""
                if reason not in ("", "stop", "length"):
                    raise RuntimeError("the engine gave the job up")
                written += len(output.token_ids)
                yield Piece(output.text, len(step.prompt_token_ids), written, reason)
        except ValueError as error:
            if begun:
                raise
            raise InvalidJobError("the engine does not take this request") from error
        finally:
            # Closed early, vLLM's generator aborts the request by its own id, which is not ours.
            await steps.aclose()

    def effective_budget(self, asked: int | None) -> int:
        """Gives *asked*, or the deployment's own."""
        return asked or self._budget

    async def is_ready(self) -> bool:
        """Tells whether vLLM finds its engine alive."""
        try:
            async with asyncio.timeout(_HEALTH_S):
                await self._llm.check_health()
        except Exception:  # noqa: BLE001 # whatever it raises, the engine is not well
            return False
        return True

    async def close(self) -> None:
        """Ends the engine's processes."""
        self._llm.shutdown()


def _guide(job: Job) -> Any:
    # A grammar that holds from the first token would forbid thoughts.
    if job.schema is None or job.thinking:
        return None
    return StructuredOutputsParams(json=dict(job.schema))
