"""A stand-in of vLLM: what `gemma4_serving.engines.vllm` imports and calls, with scripted answers.

For transformers' AutoProcessor it puts the processor of the engine `transformers`.
"""

from __future__ import annotations

from transformers import AutoProcessor

from gemma4_serving.engines.transformers import StillsProcessor

# The checkpoint's whole processor needs torchvision, which the engines' own images have and tests do without.
AutoProcessor.from_pretrained = StillsProcessor.from_pretrained
