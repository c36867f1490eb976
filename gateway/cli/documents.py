"""Answers, failures and usage as JSON values, for programs to read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from visiongateway import VisionError
    from visiongateway.v1.call_pb2 import Usage


def answer(response: Any) -> Mapping[str, Any]:
    """Gives the response of a task as proto JSON with all fields but `info`, named as in the proto."""
    from google.protobuf.json_format import MessageToDict  # noqa: PLC0415  `--help` should not wait

    told = MessageToDict(response, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
    told.pop("info", None)
    return told


def error(failure: VisionError) -> dict[str, str]:
    """Tells what went wrong."""
    return {"code": failure.code.name, "reason": failure.reason, "message": failure.message}


def usage(used: Usage) -> dict[str, int]:
    """Gives the tokens of each kind."""
    return {field.name: getattr(used, field.name) for field in used.DESCRIPTOR.fields}
