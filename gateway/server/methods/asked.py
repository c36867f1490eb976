"""Finds the task in requests that hold one, and puts answers of any task into one message."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gateway.errors import InvalidField, Violation
from visiongateway.v1 import vision_service_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gateway.tasks import AnyTask


def asked(request: Any, tasks: Mapping[str, AnyTask], at: str = "") -> tuple[AnyTask, str, Any]:
    """Gives the task that *request* holds, the name of its field, and its own request.

    Fields are named as RPCs in lower case. Raises `InvalidField` where none is set; *at* goes before its path.
    """
    name = request.WhichOneof("task")
    if name is None:
        known = ", ".join(field.name for field in request.DESCRIPTOR.oneofs_by_name["task"].fields)
        raise InvalidField([Violation(f"{at}task", f"must be one of {known}")])
    task = next(task for rpc, task in tasks.items() if rpc.lower() == name)
    return task, name, getattr(request, name)


def answered(name: str, response: Any) -> pb.TaskAnswer:
    """Puts *response*, that of the task whose field is *name*, into the message that holds any task's answer."""
    answer = pb.TaskAnswer()
    getattr(answer, name).CopyFrom(response)
    return answer
