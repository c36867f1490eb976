"""Reads the body of a unary call, so that the gateway decides when and how long it waits for one."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import grpc

from gateway.errors import MalformedRequest

# grpc tells of a message over its limit by an end of the stream at once, and then cancels the call; of a caller that
# cancels it tells in the same way. What ends so soon after its headers was hardly cancelled by its caller.
_SOON_S = 0.1
# The cancellation, where there is one, comes within a turn or two of the event loop.
_CANCELLED_BY_S = 0.02


class MessageTooLarge(asyncio.CancelledError):
    """The library itself refused the message for its size, with RESOURCE_EXHAUSTED, and cancelled the call."""


async def read(context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
    """Waits for the one message of the call.

    Raises `MalformedRequest` when the caller ends the call without one, and `MessageTooLarge`.
    """
    loop = asyncio.get_running_loop()
    started = loop.time()
    raw = await context.read()
    if raw is not grpc.aio.EOF:
        return cast("bytes", raw)
    soon = loop.time() - started < _SOON_S
    try:
        await asyncio.sleep(_CANCELLED_BY_S)
    except asyncio.CancelledError:
        if soon:
            raise MessageTooLarge from None
        raise
    raise MalformedRequest("the call has no message")
