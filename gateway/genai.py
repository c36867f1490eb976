"""What a span says of a model that is asked, in the words of OpenTelemetry's conventions for generative AI.

https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans/. Nothing of what was asked or answered is among it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.usage import Usage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.domain import Completion, Prompt, SentImage, SourceImage
    from gateway.tracing import Value

# Of the operations that the conventions name, the one whose input is not text alone.
OPERATION = "generate_content"


def asked(prompt: Prompt, provider: str, model: str, *, streams: bool) -> dict[str, Value]:
    """Says what is asked of *model*, as its operator calls it, at a *provider*, the kind of its backend."""
    said: dict[str, Value] = {
        "gen_ai.operation.name": OPERATION,
        "gen_ai.provider.name": provider,
        "gen_ai.request.model": model,
        "gen_ai.request.max_tokens": prompt.max_output_tokens,
        "gen_ai.request.stream": streams,
        "gen_ai.output.type": "text" if prompt.schema is None else "json",
        "vision_gateway.rpc": prompt.rpc,
    }
    sampling = {"temperature": prompt.temperature, "top_p": prompt.top_p, "top_k": prompt.top_k, "seed": prompt.seed}
    said.update({f"gen_ai.request.{name}": value for name, value in sampling.items() if value is not None})
    return said


def answered(completion: Completion) -> dict[str, Value]:
    """Says what was used, and by whom."""
    said = {"gen_ai.response.model": completion.provider_model, **used(completion.usage)}
    if completion.time_to_first_token_s is not None:
        said["gen_ai.response.time_to_first_chunk"] = completion.time_to_first_token_s
    return said


def used(usage: Usage) -> dict[str, Value]:
    """Says how many tokens were used."""
    return {
        "gen_ai.usage.input_tokens": usage.input_total,
        "gen_ai.usage.output_tokens": usage.output_total,
        "gen_ai.usage.cache_read.input_tokens": usage.cached_input,
        "gen_ai.usage.reasoning.output_tokens": usage.reasoning,
    }


def images(given: Sequence[SourceImage], sent: Sequence[SentImage]) -> dict[str, Value]:
    """Says how many images were made ready, and what became of the first one."""
    first, made = given[0], sent[0]
    return {
        "vision_gateway.image.count": len(sent),
        "vision_gateway.image.media_type": first.media_type,
        "vision_gateway.image.bytes": len(first.data),
        "vision_gateway.image.width_px": first.width_px,
        "vision_gateway.image.height_px": first.height_px,
        "vision_gateway.image.sent_bytes": len(made.data),
        "vision_gateway.image.sent_width_px": made.plan.width_px,
        "vision_gateway.image.sent_height_px": made.plan.height_px,
        "vision_gateway.image.tokens": made.plan.token_count,
    }
