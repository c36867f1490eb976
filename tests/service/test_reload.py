"""Settings that change while the gateway serves."""

from __future__ import annotations

import asyncio

import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.fixtures.served_gateway import failure_of
from tests.fixtures.settings_file import UNTIL_TOLD_S, as_toml, caption, script, with_ports


def kinds_of_tasks():
    return {task.get_coro().__qualname__ for task in asyncio.all_tasks()}


async def test_a_call_in_flight_ends_with_its_answer_though_its_model_is_removed(serve_file, answer_now):
    running = await serve_file(models={"old": script(delay_s=UNTIL_TOLD_S), "kept": script()})
    call = asyncio.ensure_future(running.stub.Caption(caption(model="old"), timeout=500))
    await running.until('vision_gateway_inflight{scope="old"}', "1.0")

    line = await running.reload(models={"kept": script()})
    failure = await failure_of(running.stub.Caption(caption(model="old"), timeout=10))
    other = await running.stub.Caption(caption(), timeout=10)
    answer_now.set()

    assert (line["outcome"], line["changed"]) == (
        "applied",
        {"models.old": "removed", "routes.default.models": "changed"},
    )
    assert failure.reason == "UNKNOWN_MODEL"
    assert (await call).info.model == "old"
    assert other.info.model == "kept"
    for gauge in ("vision_gateway_model_ready", "vision_gateway_breaker_state"):
        await running.until(f'{gauge}{{model="old"}}', None)
    await running.until('vision_gateway_inflight{scope="old"}', None)


async def test_no_call_fails_while_the_file_is_rewritten_twenty_times(serve_file):
    def tables(turn):
        models = {"one": script(), "two": script(price={"input": str(turn), "output": "2"})}
        if turn % 2:
            models = {"three": script(delay_s=0.01), **models}
        return {"models": models, "server": {"reload": "auto"}, "images": {"workers": 1}}

    running = await serve_file(**tables(0))
    rewritten, answered = asyncio.Event(), []

    async def call_on():
        while len(answered) < 2000 or not rewritten.is_set():
            answered.append(None)
            answered[-1] = (await running.stub.Caption(caption(), timeout=30)).info.model

    async def rewrite():
        for turn in range(1, 21):
            running.write(**tables(turn))
            await running.told(turn)
        rewritten.set()

    before = kinds_of_tasks()
    await asyncio.gather(rewrite(), *(call_on() for _ in range(32)))

    assert await running.reloads() == {"applied": 20, "refused": 0, "unchanged": 0}
    assert {line["trigger"] for line in running.lines()} == {"file"}
    assert len(answered) >= 2000
    assert {*answered} - {None} == {"one", "three"}
    await running.until('vision_gateway_model_ready{model="three"}', None)
    async with asyncio.timeout(60):
        while kinds_of_tasks() - before:  # noqa: ASYNC110  seen from outside
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("models = {", "is not TOML"),
        ("", "no model is configured"),
        ('models = {m = {kind = "fake", profile = "gemma4", price = "dear"}}', "models.m.price"),
        ('models = {m = {kind = "fake", profile = "gemma5"}}', "no model family 'gemma5'"),
        ('models = {m = {kind = "openai", api_key_file = "/nowhere/key"}}', "/nowhere/key: No such file or directory"),
    ],
    ids=["half a file", "an empty file", "a wrong value", "an unknown family", "a key that is not there"],
)
async def test_settings_that_cannot_be_used_are_refused_and_those_before_go_on(serve_file, text, problem):
    running = await serve_file(models={"one": script()})

    running.write_text(as_toml(with_ports({})) + text)
    line = await running.reload()
    response = await running.stub.Caption(caption(), timeout=10)

    assert (line["outcome"], line["level"]) == ("refused", "error")
    assert problem in " ".join(line["problems"])
    assert response.info.model == "one"
    assert await running.reloads() == {"applied": 0, "refused": 1, "unchanged": 0}


async def test_what_needs_a_restart_is_named_and_nothing_of_it_all_is_applied(serve_file):
    running = await serve_file(models={"one": script()}, images={"max_mib": 4})
    fixed = {"images": {"max_mib": 5, "workers": 1}, "ledger": {"url": "off"}, "server": {"grpc_address": "[::1]:0"}}

    line = await running.reload(models={"two": script()}, **fixed)
    response = await running.stub.Caption(caption(), timeout=10)

    assert sorted(line["problems"]) == [
        "images.max_mib above 4, which this process began with, needs a restart",
        "images.workers needs a restart",
        "server.grpc_address needs a restart",
    ]
    assert response.info.model == "one"


async def test_settings_that_say_the_same_change_nothing(serve_file):
    running = await serve_file(models={"one": script()})

    line = await running.reload()

    assert (line["trigger"], line["outcome"], line["changed"]) == ("signal", "unchanged", {})


async def test_the_next_call_costs_the_new_price(serve_file):
    running = await serve_file(models={"one": script()})
    before = (await running.stub.Caption(caption(), timeout=10)).info

    line = await running.reload(models={"one": script(price={"input": "10", "output": "20"})})
    after = (await running.stub.Caption(caption(), timeout=10)).info

    assert line["changed"] == {"models.one.price.input": "changed", "models.one.price.output": "changed"}
    assert (after.cost_nano_usd, before.cost_nano_usd > 0) == (10 * before.cost_nano_usd, True)


async def test_a_model_that_did_not_change_keeps_its_connection_and_its_breaker(serve_file):
    flaky = script(outcomes=["OK", "BACKEND_UNAVAILABLE"], breaker={"failures": 1, "open_s": 60}, retry=False)
    running = await serve_file(models={"one": flaky})
    await running.stub.Caption(caption(), timeout=10)
    await running.reload(models={"one": flaky, "two": script()}, routes={"default": ["one"]})
    # The script goes on where it was.
    await failure_of(running.stub.Caption(caption(), timeout=10))

    await running.reload(models={"one": flaky})

    assert (await running.metrics())['vision_gateway_breaker_state{model="one"}'] == "2.0"


async def test_a_new_price_closes_no_connection(serve_file):
    running = await serve_file(models={"one": script(outcomes=["OK", "REFUSED"])})
    await running.stub.Caption(caption(), timeout=10)

    await running.reload(models={"one": script(outcomes=["OK", "REFUSED"], price="free")})
    failure = await failure_of(running.stub.Caption(caption(), timeout=10))

    assert failure.reason == "REFUSED"


async def test_who_watches_the_health_sees_nothing_of_it_when_all_models_are_replaced(serve_file):
    running = await serve_file(models={"one": script()})
    watch = health_pb2_grpc.HealthStub(running.gateway.channel).Watch(health_pb2.HealthCheckRequest())
    first = await watch.read()

    await running.reload(models={"two": script()})
    await running.reload(models={"two": script(ready=False)})
    second = await watch.read()
    watch.cancel()

    statuses = health_pb2.HealthCheckResponse
    assert [first.status, second.status] == [statuses.SERVING, statuses.NOT_SERVING]
    assert (await running.gateway.get("/readyz"))[1] == '{"state":"not_serving","models":{"two":"not_ready"}}'


async def test_a_key_that_was_rotated_is_used_without_being_told(serve_file, tmp_path):
    keys = []

    async def refuse(reader, writer):
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        keys.extend(line.split()[-1] for line in head.splitlines() if line.startswith("authorization:"))
        writer.write(b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    key_file = tmp_path / "key"
    key_file.write_text("first")
    provider = await asyncio.start_server(refuse, "127.0.0.1", 0)
    async with provider:
        url = f"http://127.0.0.1:{provider.sockets[0].getsockname()[1]}/v1"
        gpt = {"kind": "openai", "api_key_file": str(key_file), "base_url": url}
        running = await serve_file(models={"gpt": gpt}, server={"reload": "auto"})
        await failure_of(running.stub.Caption(caption(), timeout=10))

        key_file.write_text("second")
        await running.told(1)
        await failure_of(running.stub.Caption(caption(), timeout=10))

    (line,) = running.lines()
    assert (line["trigger"], line["changed"]) == ("file", {f"models.gpt (the contents of {key_file})": "changed"})
    assert [*dict.fromkeys(keys)] == ["first", "second"]
    assert "second" not in running.log.getvalue()
