"""Puts what a caller wrote into an instruction so that it stays data, and says in words what form an answer has."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.domain import JsonSchema
    from gateway.profiles import Profile

# OpenAI's limit for the values of an enum of more than 250: 15,000 characters. Smaller ones are held to it too.
_ENUM_CHARACTERS = 15_000


def quoted(text: str | Sequence[str], profile: Profile) -> str:
    """Writes caller's text as JSON, so that it cannot end the quotation or be taken for a control token."""
    written = profile.escape(text) if isinstance(text, str) else [profile.escape(each) for each in text]
    return json.dumps(written, ensure_ascii=False)


def closed_object(**properties: JsonSchema) -> JsonSchema:
    """Makes the schema of an object that has exactly *properties*, as OpenAI's strict mode asks for."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def list_of(name: str, **properties: JsonSchema) -> JsonSchema:
    """Makes the schema of an object whose one property *name* lists objects of exactly *properties*."""
    return closed_object(**{name: {"type": "array", "items": closed_object(**properties)}})


def box_schema(profile: Profile) -> JsonSchema:
    """Makes the schema of a box as *profile*'s family writes it."""
    side = "number" if profile.boxes.scale == 1 else "integer"
    return {"type": "array", "items": {"type": side}, "minItems": 4, "maxItems": 4}


def label_schema(labels: Sequence[str]) -> JsonSchema:
    """Makes the schema of one of *labels*, or of any text where there are none, or more than a schema may list."""
    if labels and sum(map(len, labels)) <= _ENUM_CHARACTERS:
        return {"type": "string", "enum": list(labels)}
    return {"type": "string"}
