"""A job in the words of the checkpoint's own chat template, and its sampling, for engines that take a prompt's text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gemma4_serving.engines import Job

# What Gemma's model card recommends; the engines' own defaults sample from the whole vocabulary.
_RECOMMENDED = {"temperature": 1.0, "top_p": 0.95, "top_k": 64}


def prompt_of(processor: Any, job: Job) -> str:
    """Gives the text of the turns, images before words; *processor* is the checkpoint's, of transformers."""
    user: list[dict[str, Any]] = [{"type": "image"} for _ in job.images]
    user.append({"type": "text", "text": _plain(processor, job.user)})
    messages = [{"role": "user", "content": user}]
    if job.system:
        messages.insert(0, {"role": "system", "content": [{"type": "text", "text": _plain(processor, job.system)}]})
    text: str = processor.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=True, enable_thinking=job.thinking
    )
    return text


def sampling_of(job: Job) -> dict[str, Any]:
    """Gives the arguments that both engines' `SamplingParams` name alike."""
    if job.temperature == 0 or job.top_k == 1:
        # TensorRT-LLM takes no temperature of zero.
        chosen: dict[str, Any] = {"top_k": 1}
    else:
        asked = {"temperature": job.temperature, "top_p": job.top_p, "top_k": job.top_k}
        chosen = _RECOMMENDED | {name: value for name, value in asked.items() if value is not None}
    if job.seed is not None:
        chosen["seed"] = job.seed % (1 << 63)
    if job.stop:
        chosen["stop"] = list(job.stop)
    # Thoughts are told from the answer by control tokens.
    return {"max_tokens": job.max_tokens, "skip_special_tokens": False, **chosen}


def _plain(processor: Any, text: str) -> str:
    # What a caller writes is no control token; the engine would read `<|image|>` or `<turn|>` as one. Removing one
    # may join the halves of another.
    tokenizer = processor.tokenizer
    added = (token.content for token in tokenizer.added_tokens_decoder.values() if token.special)
    control = {*tokenizer.all_special_tokens, *added}
    before = None
    while text != before:
        before = text
        for token in control:
            text = text.replace(token, "")
    return text
