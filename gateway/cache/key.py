"""Which calls are equal: the same pictures, asked the same in the same words, of the same model."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gateway.domain import Ask

# Changes whenever the form of keys or of what is kept under them does.
_FORM: Final = 1

# The options that change what a model answers. The others choose who is asked, when, and for how much.
ANSWER_OPTIONS: Final = (
    "image_detail",
    "reasoning",
    "max_output_tokens",
    "temperature",
    "seed",
    "max_image_tokens",
)


@dataclass(frozen=True, slots=True)
class Asked:
    """Who is asked: the operator's name of the model, its kind of backend, and the provider's name of it.

    *prompt_versions* tell family, profile and task apart, by RPC.
    """

    model: str
    backend: str
    provider_model: str
    prompt_versions: Mapping[str, str]


def key_of(ask: Ask, pictures: Sequence[bytes], asked: Asked, *, principal: str = "") -> bytes:
    """Gives 32 bytes that are the same for equal calls alone, with a digest of each of the *pictures*.

    *principal* is whose calls are among themselves; empty is everybody's.
    """
    options = {name: getattr(ask.options, name) for name in ANSWER_OPTIONS}
    told = {
        "form": _FORM,
        "pictures": [picture.hex() for picture in pictures],
        "rpc": ask.query.rpc,
        "query": asdict(ask.query),  # type: ignore[call-overload]  # Every Query is a dataclass.
        "options": options | {"reasoning": ask.options.reasoning.value},
        "model": asked.model,
        "backend": asked.backend,
        "provider_model": asked.provider_model,
        "prompt_version": asked.prompt_versions[ask.query.rpc],
        "principal": principal,
    }
    # Not orjson, which writes NaN as null.
    return hashlib.sha256(json.dumps(told, sort_keys=True, separators=(",", ":")).encode()).digest()
