"""Puts a caller's schema into the part of JSON Schema that providers hold their models to.

The rules are those of OpenAI's guide "Structured Outputs": every object lists all its properties as required and
allows no others, every value has a type, nothing is nested deeper than ten levels.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from gateway.domain import JsonSchema

_DEEPEST = 10
_CHARACTERS = 100_000
_MOST_ENUM_VALUES = 1000
_ENUM_CHARACTERS = 15_000
_OPEN = frozenset({"patternProperties", "prefixItems"})
_KEPT = {
    "array": ("minItems", "maxItems"),
    "integer": ("multipleOf", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
    "number": ("multipleOf", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
    "string": ("pattern", "format"),
}
_FORMATS = frozenset({"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"})
_TYPES = {str: "string", bool: "boolean", int: "integer", float: "number", type(None): "null"}


class _InexpressibleError(Exception):
    pass


def strict(schema: JsonSchema) -> JsonSchema | None:
    """Gives *schema*, which has no references, in strict form; None where that form cannot say it.

    Properties that may be left out become nullable. What only narrows a value further (`not`, `minLength`, …) is left
    out, so an answer in this form has still to be checked.
    """
    try:
        form = _form(schema, 1)
    except _InexpressibleError:
        return None
    return form if "properties" in form and len(json.dumps(form)) <= _CHARACTERS else None


def _form(schema: object, depth: int) -> JsonSchema:
    if not isinstance(schema, Mapping) or depth > _DEEPEST or _OPEN & schema.keys():
        raise _InexpressibleError
    about = {"description": schema["description"]} if "description" in schema else {}
    if choices := schema.get("anyOf") or schema.get("oneOf"):
        if not schema.keys() <= {"anyOf", "oneOf", "description", "title", "default"}:
            raise _InexpressibleError
        return {**about, "anyOf": [_form(choice, depth) for choice in choices]}
    if "allOf" in schema:
        if len(schema["allOf"]) != 1 or not schema.keys() <= {"allOf", "description", "title", "default"}:
            raise _InexpressibleError
        return {**_form(schema["allOf"][0], depth), **about}
    if "enum" in schema or "const" in schema:
        return {**about, **_enum(schema.get("enum", [schema.get("const")]))}
    return {**about, **_typed(schema, depth)}


def _enum(values: list[object]) -> JsonSchema:
    spelled = sum(len(value) for value in values if isinstance(value, str))
    if len(values) > _MOST_ENUM_VALUES or spelled > _ENUM_CHARACTERS or not {*map(type, values)} <= _TYPES.keys():
        raise _InexpressibleError
    types = sorted({_TYPES[type(value)] for value in values})
    return {"type": types[0] if len(types) == 1 else types, "enum": values}


def _typed(schema: Mapping[str, Any], depth: int) -> JsonSchema:
    types = schema.get("type", "object" if "properties" in schema else None)
    listed = types if isinstance(types, list) else [types]
    if None in listed:
        raise _InexpressibleError
    form: dict[str, object] = {"type": types}
    for name in listed:
        form.update({keyword: schema[keyword] for keyword in _KEPT.get(name, ()) if keyword in schema})
    if form.get("format", "date") not in _FORMATS:
        del form["format"]
    if "array" in listed:
        form["items"] = _form(schema.get("items"), depth + 1)
    if "object" in listed:
        form.update(_object(schema, depth), type=types)
    return form


def _object(schema: Mapping[str, Any], depth: int) -> JsonSchema:
    properties = schema.get("properties", {})
    required = schema.get("required", [])
    others = schema.get("additionalProperties", bool(not properties))
    # An object whose names are not known beforehand has no strict form; one that merely allows more names does.
    if isinstance(others, Mapping) or (others and not properties) or not properties.keys() >= set(required):
        raise _InexpressibleError
    forms = {name: _form(each, depth + 1) for name, each in properties.items()}
    return {
        "type": "object",
        "properties": {name: form if name in required else _nullable(form) for name, form in forms.items()},
        "required": list(forms),
        "additionalProperties": False,
    }


def _nullable(form: JsonSchema) -> JsonSchema:
    types = form.get("type")
    if types == "null" or (isinstance(types, list) and "null" in types):
        return form
    return {"anyOf": [form, {"type": "null"}]}
