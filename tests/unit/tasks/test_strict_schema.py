from __future__ import annotations

import pytest

from gateway.tasks._strict_schema import strict


def closed(**properties):
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def an_object(required=(), **properties):
    return {"type": "object", "properties": properties, "required": list(required)}


STRING = {"type": "string"}
NULLABLE_STRING = {"anyOf": [STRING, {"type": "null"}]}


@pytest.mark.parametrize(
    ("schema", "form"),
    [
        (an_object(["a"], a=STRING), closed(a=STRING)),
        (an_object(a=STRING), closed(a=NULLABLE_STRING)),
        (an_object(a={"type": ["string", "null"]}), closed(a={"type": ["string", "null"]})),
        ({**an_object(["a"], a=STRING), "additionalProperties": True}, closed(a=STRING)),
        (an_object(["a"], a=an_object(["b"], b=STRING)), closed(a=closed(b=STRING))),
        (an_object(["a"], a={"properties": {"b": STRING}, "required": ["b"]}), closed(a=closed(b=STRING))),
        (
            an_object(["a"], a={"type": "array", "items": STRING, "minItems": 1, "uniqueItems": True}),
            closed(a={"type": "array", "items": STRING, "minItems": 1}),
        ),
        (an_object(["a"], a={"enum": ["x", 1]}), closed(a={"type": ["integer", "string"], "enum": ["x", 1]})),
        (an_object(["a"], a={"const": "x"}), closed(a={"type": "string", "enum": ["x"]})),
        (
            an_object(["a"], a={"oneOf": [STRING, {"type": "integer", "minimum": 0}]}),
            closed(a={"anyOf": [STRING, {"type": "integer", "minimum": 0}]}),
        ),
        (
            an_object(["a"], a={"allOf": [STRING], "description": "a word"}),
            closed(a={"type": "string", "description": "a word"}),
        ),
        (an_object(["a"], a={**STRING, "maxLength": 3, "format": "date"}), closed(a={**STRING, "format": "date"})),
        (an_object(["a"], a={**STRING, "format": "idn-email"}), closed(a=STRING)),
        ({"type": "object", "additionalProperties": False}, closed()),
    ],
)
def test_a_schema_is_put_into_strict_form(schema, form):
    assert strict(schema) == form


def nested(levels):
    schema = STRING
    for _ in range(levels):
        schema = an_object(["a"], a=schema)
    return schema


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object"},
        {"type": "object", "additionalProperties": {"type": "integer"}},
        {**an_object(a=STRING), "patternProperties": {"^x": STRING}},
        {"type": "object", "anyOf": [an_object(a=STRING)]},
        an_object(["b"], a=STRING),
        an_object(a={}),
        an_object(a=True),
        an_object(a={"type": "array"}),
        an_object(a={"type": "array", "prefixItems": [STRING]}),
        an_object(a={"enum": [{"b": 1}]}),
        an_object(a={"enum": list(range(1001))}),
        an_object(a={"allOf": [STRING, {"maxLength": 3}]}),
        nested(11),
    ],
)
def test_what_strict_form_cannot_say_is_left_to_words(schema):
    assert strict(schema) is None
