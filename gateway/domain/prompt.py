"""What a model is told, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.domain.query import JsonSchema, Reasoning, ServiceTier
from gateway.usage import Usage


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a model is told, in its family's words but in no provider's format.

    *user* comes after the images. *schema* asks for JSON; *schema_name* fits `[A-Za-z0-9_-]{1,64}`.
    *max_output_tokens* bounds answer and reasoning together. Sampling fields that are None are left to the provider.
    *trace_headers* go along with the request, by name and value: which span of which trace it is made in.
    """

    rpc: str
    user: str
    max_output_tokens: int
    system: str = ""
    schema: JsonSchema | None = None
    schema_name: str = ""
    reasoning: Reasoning = Reasoning.NONE
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    seed: int | None = None
    service_tier: ServiceTier = ServiceTier.STANDARD
    request_id: str = ""
    trace_headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Completion:
    """What a model answered, whole: a cut or refused answer is an error, never a completion.

    *text* is the answer without thoughts. *estimated* says that the usage was computed by us, not told by the provider.
    """

    text: str
    usage: Usage
    provider_model: str = ""
    service_tier: ServiceTier = ServiceTier.STANDARD
    estimated: bool = False
    time_to_first_token_s: float | None = None
