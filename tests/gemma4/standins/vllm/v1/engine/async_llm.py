"""A stand-in of vLLM's module of this name.

A token is a character of the prompt, or a piece of the answer. Words of the user: `fail` fails after a piece, `wait`
never ends. An abort leaves the file `aborted` beside the checkpoint.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace

from vllm.sampling_params import RequestOutputKind

_PIECES = ("<|channel>thou", "ght\nA cat, I think.", "<channel|>A c", "at sits.", "<turn|>")


class AsyncLLM:
    """Writes the same answer to everyone."""

    def __init__(self, model):
        self._aborted = Path(model).with_name("aborted")

    @classmethod
    def from_engine_args(cls, engine_args):
        return cls(engine_args.model)

    async def generate(self, prompt, sampling_params, request_id, *, tokenization_kwargs=None):
        assert sampling_params.output_kind is RequestOutputKind.DELTA
        assert tokenization_kwargs == {"add_special_tokens": False}
        words = prompt["prompt"]
        try:
            for piece in _PIECES:
                output = SimpleNamespace(
                    text=piece, token_ids=[0], finish_reason="stop" if piece is _PIECES[-1] else None
                )
                yield SimpleNamespace(outputs=[output], prompt_token_ids=[0] * len(words))
                if "user\nfail<" in words:
                    raise RuntimeError("secret")
                if "user\nwait<" in words:
                    await asyncio.Event().wait()
        except (asyncio.CancelledError, GeneratorExit):
            self._aborted.touch()
            raise

    async def check_health(self):
        pass

    def shutdown(self):
        pass
