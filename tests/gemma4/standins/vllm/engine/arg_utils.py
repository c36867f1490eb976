"""A stand-in of vLLM's module of this name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(kw_only=True)
class AsyncEngineArgs:
    """Takes the arguments that model.vllm.yaml names; any other does not bind."""

    model: str
    dtype: str
    tensor_parallel_size: int
    max_num_seqs: int
    max_model_len: int
    gpu_memory_utilization: float
    kv_cache_dtype: str
    limit_mm_per_prompt: dict[str, int]
    mm_processor_kwargs: dict[str, Any] | None = None
