"""Finds the answer that satisfies a caller's schema in what a model wrote."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from google.protobuf.struct_pb2 import Struct

from gateway.tasks._answer_schema import validator
from gateway.tasks._json import values
from gateway.tasks._records import clean

if TYPE_CHECKING:
    from collections.abc import Mapping

    import jsonschema_rs

    from gateway.domain import JsonSchema

# protobuf reads messages at most 100 deep; every level of a Struct is three, and the response around it a few.
_DEEPEST = 24


def structured(text: str, schema: JsonSchema) -> tuple[str, Struct] | None:
    """Gives the first JSON object in *text* that satisfies *schema*, as JSON and as a Struct; None if there is none.

    A null in place of a property that may be left out is left out: the strict form of a schema asks for it.
    """
    check = validator(schema)
    for value, alone in values(text):
        if alone and isinstance(value, dict):
            try:
                # Written and read once more, it has nothing that JSON or protobuf cannot carry.
                answer = json.loads(_written(value))
                if _depth(answer) <= _DEEPEST and (check.is_valid(answer) or _valid_without_nulls(answer, check)):
                    struct = Struct()
                    struct.update(answer)
                    return _written(answer), struct
            except (ValueError, OverflowError, RecursionError):
                continue
    return None


def _written(value: object) -> str:
    return clean(json.dumps(value, ensure_ascii=False, allow_nan=False))


def _depth(value: object) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + max(map(_depth, inner), default=0)


def _valid_without_nulls(answer: Mapping[str, object], check: jsonschema_rs.Draft202012Validator) -> bool:
    """Leaves out the nulls that *check* objects to, and tells whether *answer* is valid then."""
    for error in list(check.iter_errors(answer)):
        if error.instance is not None or not error.instance_path:
            return False
        *way, name = error.instance_path
        parent: Any = answer
        for step in way:
            parent = parent[step]
        if isinstance(parent, dict):
            parent.pop(name, None)
    return check.is_valid(answer)
