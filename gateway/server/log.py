"""Logs as one JSON object a line, or as lines for people; what libraries log comes out in the same form.

Nothing that a caller sent or a model answered is ever logged, and of an exception only its type and where it was
raised: its text may hold either, or a key.
"""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any, Literal

import orjson
import structlog
from structlog.typing import EventDict, WrappedLogger

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Mapping
    from typing import TextIO


def configure(
    style: Literal["json", "console"] = "json",
    *,
    level: str = "INFO",
    stream: TextIO | None = None,
    worker: int | None = None,
) -> None:
    """Sets up logging for the whole process, once; *stream* is standard error unless given.

    *level* is for the gateway's own lines; libraries are heard from WARNING on. Each line names the *worker*, if any.
    """
    out = stream or sys.stderr
    common: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        _without_text,
    ]
    if worker is not None:
        common.append(lambda _, __, event: {"worker": worker, **event})
    renderer: structlog.typing.Processor = structlog.processors.JSONRenderer(serializer=_json)
    if style == "console":
        renderer = structlog.dev.ConsoleRenderer(colors=out.isatty(), timestamp_key="time")
    structlog.configure(
        processors=[*common, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(out),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *common],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)


def set_level(level: str) -> None:
    """Changes the least level of the gateway's own lines."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(level))


def on_loop_error(_: asyncio.AbstractEventLoop, context: Mapping[str, Any]) -> None:
    """Logs what nobody awaited; asyncio's own handler would print the exception's text."""
    structlog.get_logger().error("event_loop_error", exc_info=context.get("exception"))


def trace_of(error: BaseException) -> list[dict[str, Any]]:
    """Tells the type of *error* and of what caused it, the latest first, and where each was raised."""
    found: list[dict[str, Any]] = []
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        found.append({"type": f"{type(current).__module__}.{type(current).__qualname__}", "at": _frames(current)})
        current = current.__cause__ or current.__context__
    return found


def _frames(error: BaseException) -> list[str]:
    frames = []
    trace = error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        frames.append(f"{code.co_filename}:{trace.tb_lineno} {code.co_qualname}")
        trace = trace.tb_next
    return frames


def _without_text(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Puts in the place of an exception what may be told of it."""
    given = event.pop("exc_info", None)
    record = event.get("_record")
    if record is not None:
        # The formatter would print the text of both on its own.
        given = given or record.exc_info
        record.exc_info = record.exc_text = None
    if given is True:
        given = sys.exc_info()
    error = given[1] if isinstance(given, tuple) else given
    if isinstance(error, BaseException):
        event["error"] = trace_of(error)
    return event


def _json(event: EventDict, **_: Any) -> str:
    # For those who read the lines as they come.
    first = {key: event.pop(key) for key in ("time", "level", "event") if key in event}
    return orjson.dumps({**first, **event}, default=lambda value: type(value).__qualname__).decode()
