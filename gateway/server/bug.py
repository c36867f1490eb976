"""Tells of what should not have happened: all of it to the log, and an id to the caller."""

from __future__ import annotations

from uuid import uuid4

import structlog

from gateway.errors import InternalError

_log = structlog.get_logger()


def told(exc: Exception, *, rpc: str, request_id: str) -> InternalError:
    """Logs *exc*, which a call ran into, and gives what its caller may know of it."""
    error_id = uuid4().hex
    _log.error("bug", error_id=error_id, rpc=rpc, request_id=request_id, exc_info=exc)
    return InternalError(f"internal error {error_id}", metadata={"error_id": error_id})
