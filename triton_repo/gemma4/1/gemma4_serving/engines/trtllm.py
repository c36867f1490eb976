"""Gemma 4 by TensorRT-LLM's LLM API, on its PyTorch backend (1.3 or newer).

Options are the arguments of `tensorrt_llm.LLM`. The image budget is the checkpoint's: it cannot be set per request.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tensorrt_llm import LLM
from tensorrt_llm.sampling_params import GuidedDecodingParams, SamplingParams
from transformers import AutoProcessor

from gemma4_serving.chat import prompt_of, sampling_of
from gemma4_serving.engines import InvalidJobError, Job, Piece

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping


async def open_engine(options: Mapping[str, Any]) -> TrtllmEngine:
    """Loads the checkpoint onto the GPUs; blocks the loop, on which nothing else is at work yet."""
    processor = AutoProcessor.from_pretrained(options["model"])
    return TrtllmEngine(LLM(**options), processor, guided=bool(options.get("guided_decoding_backend")))


class TrtllmEngine:
    """One `LLM`, which batches the jobs in flight by itself."""

    name = "trtllm"

    def __init__(self, llm: Any, processor: Any, *, guided: bool) -> None:
        """*guided* tells that *llm* has a backend for guided decoding."""
        self._llm = llm
        self._processor = processor
        self._guided = guided
        self._open = True

    async def generate(self, job: Job) -> AsyncGenerator[Piece, None]:
        """Yields what each step adds; raises RuntimeError where the engine gave a job up."""
        inputs: dict[str, Any] = {"prompt": prompt_of(self._processor, job)}
        if job.images:
            inputs["multi_modal_data"] = {"image": list(job.images)}
        # The template writes the first token, so the tokenizer must not.
        sampling = SamplingParams(**sampling_of(job), add_special_tokens=False, guided_decoding=self._guide(job))
        try:
            result = self._llm.generate_async(inputs, sampling_params=sampling, streaming=True)
        except ValueError as error:
            raise InvalidJobError("the engine does not take this request") from error
        except RuntimeError:
            # Said when its workers are gone, which do not come back.
            self._open = False
            raise
        told = 0
        ended = False
        try:
            async for step in result:
                output = step.outputs[0]
                reason = output.finish_reason or ""
                if reason not in ("", "stop", "length"):
                    raise RuntimeError("the engine gave the job up")
                ended = bool(reason)
                # TensorRT-LLM gives the whole text so far at each step.
                text = output.text[told:]
                told += len(text)
                yield Piece(text, len(step.prompt_token_ids), len(output.token_ids), reason)
        finally:
            if not ended:
                result.abort()

    def effective_budget(self, asked: int | None) -> int:
        """Gives what the checkpoint's processor is set to, whatever was *asked*."""
        del asked
        return int(self._processor.image_processor.max_soft_tokens)

    async def is_ready(self) -> bool:
        """Tells that the engine took its last job; TensorRT-LLM publishes no check of its health."""
        return self._open

    async def close(self) -> None:
        """Ends the engine's workers."""
        self._open = False
        self._llm.shutdown()

    def _guide(self, job: Job) -> Any:
        # A grammar that holds from the first token would forbid thoughts.
        if job.schema is None or job.thinking or not self._guided:
            return None
        return GuidedDecodingParams(json=dict(job.schema))
