"""What principals may call, ask, follow and send, through a whole gateway with scripted models."""

from __future__ import annotations

import hashlib

import grpc
import pytest

from tests.fixtures.served_gateway import failure_of
from tests.fixtures.settings_file import caption, principal
from visiongateway.v1 import call_pb2, image_pb2, vision_service_pb2 as pb

AS = [("authorization", "Bearer k")]
GIVEN = {"kind": "fake", "profile": "gemma4", "price": "free", "answer": "A cat."}
MODELS = {"local": GIVEN, "other": GIVEN, "remote": {**GIVEN, "local": False}}
ROUTES = {"default": ["remote", "local"], "cheap": ["local"], "far": ["remote"]}
IMAGE = caption().image


@pytest.fixture
async def start(start_gateway):
    """Starts a gateway whose one principal has the given rights."""

    async def started(**rights):
        return await start_gateway(models=MODELS, routes=ROUTES, principals={"p": principal("k", **rights)})

    return started


def options(**given):
    return call_pb2.CallOptions(**given)


async def answered_by(gateway, **given):
    answer = await gateway.stub.Caption(caption(**given), timeout=10, metadata=AS)
    return answer.info.model


async def forbidden(call):
    failure = await failure_of(call)
    assert (failure.code, failure.reason) == (grpc.StatusCode.PERMISSION_DENIED, "FORBIDDEN")
    return failure.info.metadata["rule"]


async def asked(gateway):
    """Whether any model was asked."""
    return "vision_gateway_attempts_total{" in (await gateway.get("/metrics"))[1]


async def test_an_rpc_that_is_not_the_principals_is_refused_before_its_body_is_read(start):
    gateway = await start(rpcs=["OCR"])
    call = gateway.channel.stream_unary("/visiongateway.v1.VisionService/Caption")

    # The body never comes.
    failure = await failure_of(call(timeout=10, metadata=AS))

    assert (failure.code, failure.info.metadata["rule"]) == (grpc.StatusCode.PERMISSION_DENIED, "rpcs")
    assert not await asked(gateway)


async def test_a_stream_is_an_rpc_of_its_own(start):
    gateway = await start(rpcs=["StreamCaption"])
    request = pb.StreamCaptionRequest(image=IMAGE)

    *_, last = [each async for each in gateway.stub.StreamCaption(request, timeout=10, metadata=AS)]

    assert last.answer.text == "A cat."
    assert await forbidden(gateway.stub.Caption(caption(), timeout=10, metadata=AS)) == "rpcs"


def annotate(*tasks):
    return pb.AnnotateRequest(image=IMAGE, tasks=tasks)


ANNOTATED = annotate(pb.AnnotateTask(caption=pb.CaptionRequest()), pb.AnnotateTask(ocr=pb.OCRRequest()))


async def test_the_task_that_a_call_holds_must_be_the_principals_too(start):
    gateway = await start(rpcs=["Annotate", "Quote", "Compare", "Caption"])
    ocr = pb.OCRRequest(image=IMAGE)
    none_allowed = annotate(ANNOTATED.tasks[1], ANNOTATED.tasks[1])

    async def read(stream):
        return [each async for each in stream]

    refused = [
        await forbidden(gateway.stub.Annotate(none_allowed, timeout=10, metadata=AS)),
        await forbidden(gateway.stub.Quote(pb.QuoteRequest(ocr=ocr), timeout=10, metadata=AS)),
        await forbidden(read(gateway.stub.Compare(pb.CompareRequest(ocr=ocr), timeout=10, metadata=AS))),
    ]

    assert refused == ["rpcs"] * 3
    assert not await asked(gateway)


async def test_models_that_are_not_the_principals_are_left_out_of_routes_and_refused_when_named(start):
    gateway = await start(models=["local", "other"])

    assert await answered_by(gateway) == "local"
    assert await answered_by(gateway, model="other") == "other"
    assert await forbidden(gateway.stub.Caption(caption(model="remote"), timeout=10, metadata=AS)) == "models"
    assert await forbidden(gateway.stub.Caption(caption(route="far"), timeout=10, metadata=AS)) == "models"


async def test_quotes_and_comparisons_are_of_the_principals_models(start):
    gateway = await start(models=["local", "other"])
    inner = caption()

    quote = await gateway.stub.Quote(pb.QuoteRequest(caption=inner), timeout=10, metadata=AS)
    rows = [each async for each in gateway.stub.Compare(pb.CompareRequest(caption=inner), timeout=10, metadata=AS)]
    named = pb.CompareRequest(caption=inner, models=["local", "remote"])

    assert [each.model for each in quote.candidates] == ["local"]
    assert {each.model for each in rows[:-1]} == {"local", "other"}

    async def read():
        return [each async for each in gateway.stub.Compare(named, timeout=10, metadata=AS)]

    assert await forbidden(read()) == "models"


async def test_the_list_has_what_the_principal_may_use(start):
    gateway = await start(models=["local", "other"], routes=["default", "far"])

    listed = await gateway.stub.ListModels(pb.ListModelsRequest(), timeout=10, metadata=AS)

    assert [each.name for each in listed.models] == ["local", "other"]
    assert {each.name: [*each.models] for each in listed.routes} == {"default": ["local"]}


async def test_a_name_that_is_unknown_is_told_with_those_the_principal_may_use(start):
    gateway = await start(models=["local"], routes=["cheap"])

    model = await failure_of(gateway.stub.Caption(caption(model="x"), timeout=10, metadata=AS))
    route = await failure_of(gateway.stub.Caption(caption(route="x"), timeout=10, metadata=AS))

    assert model.message == "no model is named 'x'; there are: local"
    assert route.message == "no route is named 'x'; there are: cheap"


async def test_a_route_that_is_not_the_principals_is_refused(start):
    gateway = await start(routes=["default"])

    assert await answered_by(gateway) == "remote"
    assert await forbidden(gateway.stub.Caption(caption(route="cheap"), timeout=10, metadata=AS)) == "routes"


async def test_a_call_without_a_route_follows_the_first_of_the_principals_where_the_usual_ones_are_not(start):
    gateway = await start(routes=["cheap", "far"])

    assert await answered_by(gateway) == "local"


async def test_a_task_has_its_own_route_only_where_it_is_the_principals(start_gateway):
    gateway = await start_gateway(
        models=MODELS,
        routes={**ROUTES, "caption": ["other"]},
        principals={"p": principal("k", routes=["default"]), "q": principal("q", routes=["caption"])},
    )

    answer = await gateway.stub.Caption(caption(), timeout=10, metadata=[("authorization", "Bearer q")])

    assert answer.info.model == "other"
    assert await answered_by(gateway) == "remote"


async def test_the_principals_calls_stay_local_whatever_they_ask_for(start):
    gateway = await start(local_only=True)
    pinned = caption(model="remote")

    failure = await failure_of(gateway.stub.Caption(pinned, timeout=10, metadata=AS))
    each = pb.CaptionRequest(options=options(model="remote", local_only=False))
    request = annotate(pb.AnnotateTask(caption=pb.CaptionRequest()), pb.AnnotateTask(caption=each))
    results = (await gateway.stub.Annotate(request, timeout=10, metadata=AS)).results
    quote = await gateway.stub.Quote(pb.QuoteRequest(caption=caption()), timeout=10, metadata=AS)

    assert await answered_by(gateway) == "local"
    assert failure.reason == "UNSUPPORTED_BY_MODEL"
    assert results[0].answer.caption.info.model == "local"
    assert results[1].status.code == grpc.StatusCode.FAILED_PRECONDITION.value[0]
    assert [each.model for each in quote.candidates] == ["local"]


async def test_a_model_that_follows_as_a_shadow_gets_nothing_of_those_who_may_not_ask_it(start_gateway):
    gateway = await start_gateway(
        models=MODELS,
        routes={"default": {"models": ["local"], "shadow": {"model": "other", "share": 1.0}}},
        principals={"p": principal("k", models=["local"]), "q": principal("q")},
    )

    await answered_by(gateway)
    _, before = await gateway.get("/metrics")
    await gateway.stub.Caption(caption(), timeout=10, metadata=[("authorization", "Bearer q")])
    _, after = await gateway.get("/metrics")

    assert 'vision_gateway_shadows_total{model="other"' not in before
    assert 'model="other"' in after


async def test_an_image_over_the_principals_limit_is_refused_by_its_bytes_and_by_its_digest(start):
    size = len(IMAGE.data)
    gateway = await start(max_image_mib=(size - 1) / 2**20)
    by_digest = pb.CaptionRequest(image=image_pb2.Image(digest=hashlib.sha256(IMAGE.data).digest()))

    rule = await forbidden(gateway.stub.Caption(caption(), timeout=10, metadata=AS))
    unknown = await failure_of(gateway.stub.Caption(by_digest, timeout=10, metadata=AS))

    assert rule == "max_image_mib"
    # It was not held either.
    assert unknown.reason == "UNKNOWN_DIGEST"
    assert not await asked(gateway)


async def test_an_image_within_the_principals_limit_is_taken(start):
    gateway = await start(max_image_mib=len(IMAGE.data) / 2**20)

    assert await answered_by(gateway) == "remote"


async def test_whoever_has_no_credential_has_the_rights_of_anonymous(start_gateway):
    gateway = await start_gateway(models=MODELS, principals={"anonymous": {"rpcs": ["ListModels"]}})

    await gateway.stub.ListModels(pb.ListModelsRequest(), timeout=10)

    assert await forbidden(gateway.stub.Caption(caption(), timeout=10)) == "rpcs"


async def test_when_the_last_key_is_revoked_the_door_stays_shut(serve_file):
    running = await serve_file(models=MODELS, principals={"p": principal("k")})
    await running.stub.Caption(caption(), timeout=10, metadata=AS)

    await running.reload(models=MODELS, principals={"p": {}})
    with_key = await failure_of(running.stub.Caption(caption(), timeout=10, metadata=AS))
    without = await failure_of(running.stub.Caption(caption(), timeout=10))

    assert [each.info.metadata["cause"] for each in (with_key, without)] == ["unknown_key", "missing"]
    metrics = await running.metrics()
    assert [
        metrics[f'vision_gateway_auth_refused_total{{cause="{cause}"}}'] for cause in ("unknown_key", "missing")
    ] == [
        "1.0",
        "1.0",
    ]


async def test_rights_change_while_the_gateway_serves(serve_file):
    running = await serve_file(models=MODELS, principals={"p": principal("k")})
    await running.stub.Caption(caption(), timeout=10, metadata=AS)

    await running.reload(models=MODELS, principals={"p": principal("k", rpcs=["OCR"])})

    assert await forbidden(running.stub.Caption(caption(), timeout=10, metadata=AS)) == "rpcs"
