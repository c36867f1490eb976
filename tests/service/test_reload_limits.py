"""Keys and limits that change while the gateway serves."""

from __future__ import annotations

import asyncio

from grpc import StatusCode

from tests.fixtures.served_gateway import failure_of
from tests.fixtures.settings_file import UNTIL_TOLD_S, caption, principal, script


def key(text):
    return [("authorization", f"Bearer {text}")]


async def test_a_new_key_works_at_once_and_a_removed_one_no_more(serve_file):
    running = await serve_file(models={"one": script()}, principals={"anna": principal("old")})

    line = await running.reload(models={"one": script()}, principals={"anna": principal("new")})
    failure = await failure_of(running.stub.Caption(caption(), timeout=10, metadata=key("old")))
    response = await running.stub.Caption(caption(), timeout=10, metadata=key("new"))

    assert line["changed"] == {"principals.anna.key_sha256": "changed"}
    assert (failure.code, response.info.model) == (StatusCode.UNAUTHENTICATED, "one")


async def test_a_changed_budget_holds_for_the_next_call_and_what_was_spent_stays_counted(serve_file, tmp_path):
    def tables(**budget):
        return {
            "models": {"one": script()},
            "principals": {"anna": principal("key", budget=budget)},
            "budgets": {"store": f"sqlite:///{tmp_path}/budgets.db"},
        }

    running = await serve_file(**tables())
    call = lambda: running.stub.Caption(caption(max_output_tokens=100), timeout=10, metadata=key("key"))  # noqa: E731
    await call()
    await running.reload(**tables(month="1"))
    spent = (await call()).info.cost_nano_usd
    remaining = 'vision_gateway_budget_remaining_usd{principal="anna",window="month"}'
    await running.until(remaining, str((1_000_000_000 - spent) * 1e-9))

    await running.reload(**tables(month="0.0001"))
    failure = await failure_of(call())
    await running.reload(**tables())
    response = await call()

    assert (failure.reason, failure.info.metadata["spent_nano_usd"]) == ("BUDGET_EXCEEDED", str(spent))
    assert response.info.model == "one"
    assert remaining not in await running.metrics()


async def test_limits_on_images_and_the_default_deadline_can_change(serve_file):
    running = await serve_file(models={"one": script(delay_s=0.001)})

    await running.reload(models={"one": script(delay_s=60)}, server={"default_deadline_s": 0.2})
    late = await failure_of(running.stub.Caption(caption()))
    await running.reload(models={"one": script()}, images={"formats": ["JPEG"]})
    refused = await failure_of(running.stub.Caption(caption()))

    assert late.code is StatusCode.DEADLINE_EXCEEDED
    assert (refused.reason, refused.info.metadata["limit"]) == ("INVALID_IMAGE", "format")


async def test_calls_at_once_can_be_fewer_and_more_while_some_are_in_flight(serve_file, answer_now):
    models = {"slow": script(delay_s=UNTIL_TOLD_S), "quick": script()}
    running = await serve_file(models=models)
    call = asyncio.ensure_future(running.stub.Caption(caption(model="slow"), timeout=500))
    await running.until('vision_gateway_inflight{scope="slow"}', "1.0")

    await running.reload(models=models, server={"max_inflight": 1})
    refused = await failure_of(running.stub.Caption(caption(model="quick"), timeout=10))
    await running.reload(models=models, server={"max_inflight": 2})
    quick = await running.stub.Caption(caption(model="quick"), timeout=10)
    answer_now.set()

    assert (refused.reason, quick.info.model, (await call).info.model) == ("OVERLOADED", "quick", "slow")
