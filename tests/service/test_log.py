from __future__ import annotations

import asyncio
import io
import logging

import pytest
import structlog

from gateway.domain import Attempt, Outcome
from gateway.errors import UnsupportedByModel
from gateway.server import log
from tests.fixtures.served_gateway import failure_of
from visiongateway.v1 import call_pb2, image_pb2, vision_service_pb2 as pb

CANARY = "canary-92ab"


async def test_one_line_tells_how_a_call_went(served):
    async def answer(task, _, call):
        call.trace.attempts.append(Attempt("small", Outcome.FAILED, "UNUSABLE_ANSWER", 0.5, 7))
        call.trace.attempts.append(Attempt("big", Outcome.OK, "", 1.25, 4000))
        call.trace.route_reason = "route:default"
        call.trace.upstream_s = 1.75
        response = task.response()
        response.info.model = "big"
        image = response.info.image
        image.width_px, image.height_px, image.byte_count, image.media_type = 640, 480, 1234, "image/png"
        image.sent_width_px, image.sent_height_px = 320, 240
        return response

    served.pipeline.answer = answer
    request = pb.DetectRequest(image=image_pb2.Image(data=b"abc"))
    await served.stub.Detect(request, metadata=(("x-request-id", "r-7"),))
    [line] = served.lines()
    varying = {key: line.pop(key) for key in ("time", "total_ms", "body_ms", "overhead_ms")}
    assert varying["time"].endswith("Z")
    assert line == {
        "event": "call",
        "level": "info",
        "rpc": "Detect",
        "code": "OK",
        "reason": "",
        "request_id": "r-7",
        "principal": "anonymous",
        "model": "big",
        "cost_nano_usd": 4007,
        "queue_ms": 0,
        "image_ms": 0,
        "upstream_ms": 1750,
        "request_bytes": 7,
        "route_reason": "route:default",
        "attempts": [
            {"model": "small", "outcome": "failed", "reason": "UNUSABLE_ANSWER", "ms": 500, "cost_nano_usd": 7},
            {"model": "big", "outcome": "ok", "reason": "", "ms": 1250, "cost_nano_usd": 4000},
        ],
        "image": {"media_type": "image/png", "bytes": 1234, "size": [640, 480], "sent_size": [320, 240]},
    }


async def test_nothing_that_was_asked_or_answered_is_logged(served):
    async def answer(task, request, _):
        if request.image.data.startswith(b"fail"):
            raise UnsupportedByModel(f"cannot find {CANARY}", metadata={"label": CANARY})
        if request.image.data.startswith(b"bug"):
            raise ValueError(CANARY, request)
        return task.response(answer=CANARY)

    served.pipeline.answer = answer
    options = call_pb2.CallOptions(model=CANARY)
    for start in (b"ok", b"fail", b"bug"):
        image = image_pb2.Image(data=start + CANARY.encode())
        metadata = (("authorization", f"Bearer {CANARY}"),)
        request = pb.VQARequest(image=image, question=CANARY, options=options)
        await asyncio.gather(served.stub.VQA(request, timeout=5, metadata=metadata), return_exceptions=True)
    address = image_pb2.Image(url=f"https://{CANARY}/")
    await failure_of(served.stub.VQA(pb.VQARequest(image=address, question=CANARY), timeout=5))
    assert [line["code"] for line in served.lines()] == ["OK", "FAILED_PRECONDITION", "INTERNAL", "PERMISSION_DENIED"]
    assert CANARY not in served.log.getvalue()


def _lines(style, act, level="INFO"):
    stream = io.StringIO()
    log.configure(style, level=level, stream=stream)
    act()
    return stream.getvalue()


@pytest.fixture(autouse=True)
def logging_as_before():
    root = logging.getLogger()
    before = root.handlers, root.level
    yield
    root.handlers, root.level = before
    structlog.reset_defaults()


def test_libraries_log_in_the_same_form_from_warning_on():
    def act():
        logging.getLogger("grpc").warning("port %d", 7)
        logging.getLogger("openai").info("not heard")

    text = _lines("json", act)
    assert text.count("\n") == 1
    assert text.endswith('"level":"warning","event":"port 7","logger":"grpc"}\n')


def test_a_librarys_exception_is_logged_without_its_text():
    def act():
        try:
            int(CANARY)
        except ValueError:
            logging.getLogger("openai").exception("it broke")

    text = _lines("json", act)
    assert '"type":"builtins.ValueError"' in text
    assert CANARY not in text


def test_an_exception_that_nobody_awaited_is_logged_without_its_text():
    async def fail():
        raise ValueError(CANARY)

    async def lose():
        asyncio.get_running_loop().set_exception_handler(log.on_loop_error)
        task = asyncio.create_task(fail())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        del task

    text = _lines("json", lambda: asyncio.run(lose()))
    assert '"event":"event_loop_error"' in text
    assert CANARY not in text


def test_people_get_lines_of_their_own():
    text = _lines("console", lambda: structlog.get_logger().info("listening", port=50051))
    assert "listening" in text
    assert "port=50051" in text
    assert not text.startswith("{")


def test_the_level_bounds_what_is_logged():
    assert _lines("json", lambda: structlog.get_logger().info("quiet"), level="WARNING") == ""


def test_the_level_can_change_and_the_form_stays():
    def act():
        log.set_level("ERROR")
        structlog.get_logger().warning("quiet")
        log.set_level("INFO")
        structlog.get_logger().info("heard")

    assert _lines("json", act).endswith('"level":"info","event":"heard"}\n')
    assert _lines("json", act).count("\n") == 1
