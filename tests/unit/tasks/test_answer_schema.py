from __future__ import annotations

import math

import pytest
from google.protobuf.struct_pb2 import Struct

from gateway.errors import Violation
from gateway.tasks._answer_schema import violations, written_out
from gateway.tasks._structured import structured


def struct(schema):
    message = Struct()
    message.update(schema)
    return message


def an_object(**keywords):
    return {"type": "object", **keywords}


@pytest.mark.parametrize(
    "schema",
    [
        an_object(),
        an_object(properties={"a": {"type": ["string", "null"], "pattern": "^[a-z]+$"}}, required=["a"]),
        an_object(properties={"$ref": {"type": "string"}}),
        an_object(properties={"a": {"const": {"$ref": "http://example.com/not-followed"}}}),
        an_object(properties={"a": {"$ref": "#/$defs/a"}}, **{"$defs": {"a": {"type": "string"}}}),
    ],
)
def test_a_schema_of_an_object_is_right(schema):
    assert list(violations("answer_schema", struct(schema))) == []


@pytest.mark.parametrize(
    ("schema", "field", "description"),
    [
        ({}, "answer_schema", 'must have "type": "object" at its root'),
        ({"type": "array"}, "answer_schema", 'must have "type": "object" at its root'),
        (an_object(title="x" * 16_384), "answer_schema", "is larger than 16 KiB as JSON"),
        (an_object(title="x" * 1_000_000), "answer_schema", "is larger than 16 KiB as JSON"),
        (an_object(maxProperties=math.nan), "answer_schema", "has a number that JSON cannot write, such as NaN"),
        (
            an_object(properties={"a": {"type": "strin"}}),
            "answer_schema.properties.a.type",
            "is not JSON Schema of draft 2020-12",
        ),
        (an_object(properties=5), "answer_schema.properties", "is not JSON Schema of draft 2020-12"),
        (
            an_object(properties={"a": {"pattern": "(?=a)"}}),
            "answer_schema.properties.a.pattern",
            "is not JSON Schema of draft 2020-12",
        ),
        (
            an_object(properties={"a": {"$ref": "https://example.com/schema"}}),
            "answer_schema",
            "refers to 'https://example.com/schema'; a reference must be a JSON pointer such as #/$defs/name",
        ),
        (
            an_object(properties={"a": {"$ref": "#/$defs/b"}}),
            "answer_schema",
            "refers to '#/$defs/b', which it does not have",
        ),
        (an_object(properties={"a": {"$ref": "#"}}), "answer_schema", "refers in a circle, by '#'"),
        (
            an_object(properties={"a": {"$ref": "#/properties/a"}}),
            "answer_schema",
            "refers in a circle, by '#/properties/a'",
        ),
        (an_object(**{"$dynamicRef": "#x"}), "answer_schema", "uses $dynamicRef, which is not supported"),
    ],
)
def test_what_is_wrong_with_a_schema_is_said(schema, field, description):
    assert list(violations("answer_schema", struct(schema))) == [Violation(field, description)]


def test_references_that_multiply_are_stopped():
    double = {f"d{n}": {"anyOf": [{"$ref": f"#/$defs/d{n + 1}"}, {"$ref": f"#/$defs/d{n + 1}"}]} for n in range(40)}
    schema = an_object(properties={"a": {"$ref": "#/$defs/d0"}}, **{"$defs": {**double, "d40": {}}})

    assert list(violations("answer_schema", struct(schema))) == [
        Violation("answer_schema", "is too large or too deep once its references are written out")
    ]


def test_references_are_written_out():
    schema = an_object(
        properties={
            "first": {"$ref": "#/$defs/cup"},
            "more": {"type": "array", "items": {"$ref": "#/$defs/cup", "description": "another"}},
            "narrow": {"$ref": "#/$defs/cup", "maxLength": 3},
        },
        **{"$defs": {"cup": {"type": "string"}}, "$schema": "https://json-schema.org/draft/2020-12/schema"},
    )

    assert written_out(struct(schema)) == {
        "type": "object",
        "properties": {
            "first": {"type": "string"},
            "more": {"type": "array", "items": {"type": "string", "description": "another"}},
            "narrow": {"allOf": [{"type": "string"}], "maxLength": 3},
        },
    }


COUNT = {
    "type": "object",
    "properties": {"count": {"type": "integer"}, "by": {"type": "object", "properties": {"who": {"type": "string"}}}},
    "required": ["count"],
}


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ('{"count": 2}', '{"count": 2}'),
        ('First {"count": "two"}, no: {"count": 2}', '{"count": 2}'),
        ('{"count": 2, "by": {"who": null}}', '{"count": 2, "by": {}}'),
        ('{"count": 2, "more": 1}', '{"count": 2, "more": 1}'),
    ],
)
def test_the_first_object_that_satisfies_a_schema_is_the_answer(text, answer):
    assert structured(text, COUNT)[0] == answer


@pytest.mark.parametrize(
    "text",
    [
        '{"count": null}',
        '{"by": {"count": 2}}',
        '[{"count": 2}]',
        '{"by": {"count": 2}, "count',
        '{"count": Infinity}',
        '{"count": 1e400}',
        '{"count": 1' + "0" * 400 + "}",
        '{"count": 2, "deep": ' + '{"a":' * 30 + "1" + "}" * 31,
    ],
)
def test_what_does_not_satisfy_a_schema_is_no_answer(text):
    assert structured(text, COUNT) is None


def test_a_pattern_that_explodes_elsewhere_is_matched_in_no_time():
    schema = {"type": "object", "properties": {"a": {"pattern": "^(a+)+$"}}}

    assert structured('{"a": "' + "a" * 50_000 + 'b"}', schema) is None
