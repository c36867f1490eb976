"""Who is asked in a comparison, and which comparisons are refused, through a whole gateway."""

from __future__ import annotations

import pytest
from grpc import StatusCode

from tests.fixtures.comparisons import compared, detect, metric, reason, scripted
from tests.fixtures.served_gateway import failure_of
from visiongateway.v1 import image_pb2

CAT = [100, 200, 500, 700]


async def test_an_unknown_name_is_refused_before_anybody_is_asked(start_gateway):
    gateway = await start_gateway(models={"one": scripted(CAT)})

    failure = await failure_of(compared(gateway, "one", "nobody", detect=detect()))

    assert (failure.code, failure.reason) == (StatusCode.NOT_FOUND, "UNKNOWN_MODEL")
    assert failure.trailers["x-vision-cost-nano-usd"] == "0"


async def test_a_named_model_that_cannot_do_the_task_has_a_row_that_says_so(start_gateway):
    gateway = await start_gateway(models={"reader": scripted(tasks=["OCR"]), "finder": scripted(CAT)})

    named, _, _ = await compared(gateway, "reader", "finder", detect=detect())
    every, _, _ = await compared(gateway, detect=detect())

    assert {name: reason(row) for name, row in named.items()} == {"reader": "UNSUPPORTED_BY_MODEL", "finder": None}
    assert list(every) == ["finder"]


async def test_where_nobody_can_the_call_fails_and_says_why(start_gateway):
    gateway = await start_gateway(models={"reader": scripted(tasks=["OCR"])})

    failure = await failure_of(compared(gateway, detect=detect()))

    assert (failure.code, failure.reason) == (StatusCode.FAILED_PRECONDITION, "UNSUPPORTED_BY_MODEL")
    assert "reader is not asked for Detect" in failure.message


async def test_what_is_to_stay_here_is_not_shown_to_third_parties(start_gateway):
    gateway = await start_gateway(models={"here": scripted(CAT, local=True), "there": scripted(CAT, local=False)})

    every, _, _ = await compared(gateway, detect=detect(local_only=True))
    named, _, _ = await compared(gateway, "here", "there", detect=detect(local_only=True))

    assert list(every) == ["here"]
    assert {name: reason(row) for name, row in named.items()} == {"here": None, "there": "UNSUPPORTED_BY_MODEL"}
    assert await metric(gateway, 'vision_gateway_attempts_total{model="there"') == []


async def test_an_image_that_cannot_be_read_fails_the_call_by_its_path(start_gateway):
    gateway = await start_gateway(models={"one": scripted(CAT)})

    failure = await failure_of(compared(gateway, detect=detect(image=image_pb2.Image(data=b"no image"))))

    assert (failure.code, failure.reason) == (StatusCode.INVALID_ARGUMENT, "INVALID_IMAGE")
    assert [field for field, _ in failure.violations] == ["detect.image"]


@pytest.mark.parametrize(
    ("options", "models", "expected"),
    [
        ({"model": "one"}, [], ["detect.options.model"]),
        ({"route": "default"}, [], ["detect.options.route"]),
        ({"allow_fallback": True}, [], ["detect.options.allow_fallback"]),
        ({}, ["one", "one"], ["models"]),
        ({}, [f"model {number}" for number in range(17)], ["models"]),
        ({"temperature": 3}, [], ["detect.options.temperature"]),
    ],
)
async def test_what_makes_no_sense_in_a_comparison_is_refused(start_gateway, options, models, expected):
    gateway = await start_gateway(models={"one": scripted(CAT)})

    failure = await failure_of(compared(gateway, *models, detect=detect(**options)))

    assert (failure.reason, [field for field, _ in failure.violations]) == ("INVALID_FIELD", expected)


async def test_a_comparison_that_names_a_model_twice_is_told_which(start_gateway):
    gateway = await start_gateway(models={"one": scripted(CAT), "two": scripted(CAT)})

    failure = await failure_of(compared(gateway, "one", "two", "one", detect=detect()))

    assert failure.violations == [("models", "has the same name twice: 'one'")]
