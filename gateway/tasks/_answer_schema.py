"""The JSON Schema that a caller sets for an answer: checked, and written out without references.

It is of draft 2020-12, its root an object. `$ref` points within the schema, and never around in a circle; `pattern`
is matched in linear time, so it has no lookaround and no backreference.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote

import jsonschema_rs
from google.protobuf import json_format
from google.protobuf.struct_pb2 import Struct

from gateway.domain import JsonSchema
from gateway.errors import Violation

_BYTES = 16 * 1024
# Bytes of a Struct for one byte of its JSON, at most: `0,` is a Value of 11 bytes.
_STRUCT_BYTES = 16 * _BYTES
# Written out, references multiply: a hundred of them can make 2^50 subschemas, and a check that never ends.
_MOST_SUBSCHEMAS = 5000
_DEEPEST = 64
_LARGEST_WHOLE_FLOAT = 2**53

# Keywords by what stands under them: a schema, a list of schemas, schemas by name.
_ONE = frozenset(
    {"additionalProperties", "contains", "else", "if", "items", "not", "propertyNames", "then"}
    | {"unevaluatedItems", "unevaluatedProperties"}
)
_LISTS = frozenset({"allOf", "anyOf", "oneOf", "prefixItems"})
_MAPS = frozenset({"dependentSchemas", "patternProperties", "properties"})
# What serves references alone, and nobody once they are written out.
_NAMES = frozenset({"$anchor", "$comment", "$defs", "$id", "$schema", "definitions"})
_REFUSED = frozenset({"$dynamicAnchor", "$dynamicRef", "$recursiveAnchor", "$recursiveRef", "$vocabulary"})
_ANNOTATIONS = frozenset({"default", "deprecated", "description", "examples", "readOnly", "title", "writeOnly"})


class SchemaError(ValueError):
    """Says, to people, what is wrong with a schema, and where in it: *path*, empty for all of it."""

    def __init__(self, message: str, path: str = "") -> None:
        super().__init__(message)
        self.path = path


def violations(field: str, schema: Struct) -> Iterator[Violation]:
    """Yields the first thing that is wrong with *schema*, which *field* holds; the next could follow from it."""
    try:
        written_out(schema)
    except SchemaError as exc:
        yield Violation(f"{field}{exc.path}", str(exc))


def written_out(schema: Struct) -> JsonSchema:
    """Gives *schema* in plain values, with every reference replaced by what it refers to.

    Raises `SchemaError` if it is larger than 16 KiB as JSON, is no schema, or refers to elsewhere or in a circle.
    """
    if schema.ByteSize() > _STRUCT_BYTES:
        raise SchemaError(f"is larger than {_BYTES // 1024} KiB as JSON")
    try:
        root = json.loads(json_format.MessageToJson(schema, sort_keys=True), parse_float=_whole)
    except ValueError:
        raise SchemaError("has a number that JSON cannot write, such as NaN") from None
    if len(json.dumps(root, ensure_ascii=False, separators=(",", ":")).encode()) > _BYTES:
        raise SchemaError(f"is larger than {_BYTES // 1024} KiB as JSON")
    if root.get("type") != "object":
        raise SchemaError('must have "type": "object" at its root')
    expanded: dict[str, Any] = _Expansion(root).written(root, ("#",), 0)
    validator(expanded)
    return expanded


def validator(schema: JsonSchema) -> jsonschema_rs.Draft202012Validator:
    """Makes what tells whether an answer satisfies *schema*; fetches nothing. Raises `SchemaError` if it is none."""
    try:
        return jsonschema_rs.Draft202012Validator(
            dict(schema), offline=True, pattern_options=jsonschema_rs.RegexOptions()
        )
    except jsonschema_rs.ValidationError as exc:
        path = "".join(f".{step}" for step in exc.instance_path)
        raise SchemaError("is not JSON Schema of draft 2020-12", path) from None
    except ValueError:
        raise SchemaError("is not JSON Schema of draft 2020-12 that can be checked") from None


def _whole(number: str) -> float | int:
    value = float(number)
    return int(value) if value.is_integer() and abs(value) <= _LARGEST_WHOLE_FLOAT else value


class _Expansion:
    """Writes out one schema, within a bound on how large it may become."""

    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root
        self._left = _MOST_SUBSCHEMAS

    def written(self, schema: Any, inside: tuple[str, ...], depth: int) -> Any:
        """Gives *schema*, found *depth* deep and *inside* these references, without references of its own."""
        if not isinstance(schema, dict):
            return schema
        self._left -= 1
        if self._left < 0 or depth > _DEEPEST:
            raise SchemaError("is too large or too deep once its references are written out")
        if refused := _REFUSED & schema.keys():
            raise SchemaError(f"uses {min(refused)}, which is not supported")
        plain = {
            keyword: self._under(keyword, value, inside, depth + 1)
            for keyword, value in schema.items()
            if keyword not in _NAMES and keyword != "$ref"
        }
        if "$ref" not in schema:
            return plain
        reference = str(schema["$ref"])
        if reference in inside:
            raise SchemaError(f"refers in a circle, by {reference[:60]!r}")
        target = self.written(self._target(reference), (*inside, reference), depth + 1)
        if isinstance(target, dict) and plain.keys() <= _ANNOTATIONS:
            return {**target, **plain}
        return {**plain, "allOf": [target, *plain.get("allOf", [])]}

    def _under(self, keyword: str, value: Any, inside: tuple[str, ...], depth: int) -> Any:
        if keyword in _ONE:
            return self.written(value, inside, depth)
        if keyword in _LISTS and isinstance(value, list):
            return [self.written(each, inside, depth) for each in value]
        if keyword in _MAPS and isinstance(value, dict):
            return {name: self.written(each, inside, depth) for name, each in value.items()}
        return value

    def _target(self, reference: str) -> Any:
        found: Any = self._root
        pointer = reference.removeprefix("#")
        if pointer == reference or not (pointer == "" or pointer.startswith("/")):
            raise SchemaError(f"refers to {reference[:60]!r}; a reference must be a JSON pointer such as #/$defs/name")
        for step in pointer.split("/")[1:]:
            name = unquote(step).replace("~1", "/").replace("~0", "~")
            try:
                found = found[int(name)] if isinstance(found, list) else found[name]
            except (KeyError, IndexError, TypeError, ValueError):
                raise SchemaError(f"refers to {reference[:60]!r}, which it does not have") from None
        return found
