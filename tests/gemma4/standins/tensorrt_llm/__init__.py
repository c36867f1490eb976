"""A stand-in of TensorRT-LLM: what `gemma4_serving.engines.trtllm` imports and calls, with scripted answers.

A token is a character of the prompt, or a piece of the answer. Words of the user: `fail` fails after a piece, `wait`
never ends. An abort leaves the file `aborted` beside the checkpoint.
For transformers' AutoProcessor it puts the processor of the engine `transformers`.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace

from transformers import AutoProcessor

from gemma4_serving.engines.transformers import StillsProcessor

# The checkpoint's whole processor needs torchvision, which the engines' own images have and tests do without.
AutoProcessor.from_pretrained = StillsProcessor.from_pretrained

_PIECES = ("<|channel>thou", "ght\nA cat, I think.", "<channel|>A c", "at sits.", "<turn|>")


class LLM:
    """Takes the arguments that model.trtllm.yaml names; any other does not bind."""

    def __init__(
        self,
        model,
        *,
        backend,
        tensor_parallel_size,
        max_batch_size,
        max_num_tokens,
        max_seq_len,
        kv_cache_config,
        guided_decoding_backend=None,
    ):
        self._aborted = Path(model).with_name("aborted")

    def generate_async(self, inputs, sampling_params=None, *, streaming=False):
        assert streaming
        assert not sampling_params.add_special_tokens
        return _Result(inputs["prompt"], self._aborted)

    def shutdown(self):
        pass


class _Result:
    def __init__(self, prompt, aborted):
        self._prompt = prompt
        self._aborted = aborted

    async def __aiter__(self):
        for count in range(1, len(_PIECES) + 1):
            reason = "stop" if count == len(_PIECES) else None
            output = SimpleNamespace(text="".join(_PIECES[:count]), token_ids=[0] * count, finish_reason=reason)
            yield SimpleNamespace(outputs=[output], prompt_token_ids=[0] * len(self._prompt))
            if "user\nfail<" in self._prompt:
                raise RuntimeError("secret")
            if "user\nwait<" in self._prompt:
                await asyncio.Event().wait()

    def abort(self):
        self._aborted.touch()
