"""Calls that two models are asked for, through a whole gateway whose models are scripts."""

from __future__ import annotations

import asyncio
import io

import pytest
from PIL import Image

from gateway.ledger.table import ATTEMPTS, connect
from tests.fixtures.served_gateway import failure_of
from visiongateway.v1 import call_pb2, image_pb2, vision_service_pb2 as pb

# Longer than a test may take.
HANGS = {"delay_s": 600}


def caption(**options):
    out = io.BytesIO()
    Image.new("RGB", (640, 480), "teal").save(out, "PNG")
    image = image_pb2.Image(data=out.getvalue())
    return pb.CaptionRequest(image=image, options=call_pb2.CallOptions(**options))


def script(*, price="free", **options):
    return {"kind": "fake", "profile": "gemma4", "price": price, "answer": "a cat", **options}


def dear(**options):
    return script(price={"input": "1", "output": "2"}, **options)


@pytest.fixture
def start(start_gateway, tmp_path):
    """Starts a gateway with a ledger."""

    async def started(**tables):
        stores = {
            "ledger": {"url": f"sqlite:///{tmp_path}/ledger.db"},
            "budgets": {"store": f"sqlite:///{tmp_path}/b.db"},
        }
        return await start_gateway(images={"workers": 1}, **stores, **tables)

    return started


@pytest.fixture
def ledger_has(tmp_path):
    """Waits until the ledger has as many rows, and gives them: whose, which model, how it went, whether it cost."""

    def read():
        engine = connect(f"sqlite:///{tmp_path}/ledger.db", create=False)
        with engine.connect() as connection:
            rows = connection.execute(ATTEMPTS.select()).mappings().all()
        engine.dispose()
        return sorted((row["principal"], row["model"], row["reason"], row["cost_nano_usd"] > 0) for row in rows)

    async def rows(count):
        async with asyncio.timeout(20):
            while len(found := await asyncio.to_thread(read)) < count:  # noqa: ASYNC110  seen from outside
                await asyncio.sleep(0.02)
        return found

    return rows


async def until(gateway, sample):
    async with asyncio.timeout(20):
        while sample not in (await gateway.get("/metrics"))[1].splitlines():  # noqa: ASYNC110  seen from outside
            await asyncio.sleep(0.02)


async def test_the_next_model_answers_for_one_that_hangs_and_the_bill_has_both(start, ledger_has):
    gateway = await start(
        models={"slow": dear(**HANGS), "quick": script()},
        routes={"default": {"models": ["slow", "quick"], "hedge": {"after_s": 0.05}}},
    )

    info = (await gateway.stub.Caption(caption(), timeout=60)).info

    assert info.model == "quick"
    assert [(each.model, each.reason, each.cost_nano_usd > 0) for each in info.attempts] == [
        ("slow", "CANCELLED", True),
        ("quick", "", False),
    ]
    assert info.cost_nano_usd == info.attempts[0].cost_nano_usd
    assert info.cost_basis == call_pb2.COST_BASIS_ESTIMATED
    await until(gateway, 'vision_gateway_hedges_total{outcome="second",rpc="Caption"} 1.0')
    await until(gateway, 'vision_gateway_inflight{scope="slow"} 0.0')
    assert await ledger_has(2) == [("anonymous", "quick", "", False), ("anonymous", "slow", "CANCELLED", True)]


async def test_a_budget_is_charged_for_both_and_nothing_stays_reserved(start):
    budget = {"anonymous": {"budget": {"day": "1"}}}
    gateway = await start(
        models={"slow": dear(**HANGS), "quick": dear()},
        routes={"default": {"models": ["slow", "quick"], "hedge": {"after_s": 0.05}}},
        principals=budget,
        server={"readiness_interval_s": 0.05},
    )

    info = (await gateway.stub.Caption(caption(max_cost_nano_usd=100_000_000), timeout=60)).info

    assert [each.model for each in info.attempts] == ["slow", "quick"]
    left = (1_000_000_000 - info.cost_nano_usd) / 1_000_000_000
    await until(gateway, f'vision_gateway_budget_remaining_usd{{principal="anonymous",window="day"}} {left}')


async def test_a_dear_model_races_nobody_who_allowed_no_cost(start):
    gateway = await start(
        models={"slow": script(delay_s=0.3), "quick": dear()},
        routes={"default": {"models": ["slow", "quick"], "hedge": {"after_s": 0.05}}},
    )

    info = (await gateway.stub.Caption(caption(), timeout=60)).info

    assert [each.model for each in info.attempts] == ["slow"]


async def test_a_caller_that_leaves_ends_both(start):
    gateway = await start(
        models={"slow": script(**HANGS), "slower": script(**HANGS)},
        routes={"default": {"models": ["slow", "slower"], "hedge": {"after_s": 0.05}}},
    )
    call = gateway.stub.Caption(caption(), timeout=60)
    waiting = asyncio.ensure_future(failure_of(call))
    await until(gateway, 'vision_gateway_inflight{scope="slower"} 1.0')

    call.cancel()
    await asyncio.gather(waiting, return_exceptions=True)

    await until(gateway, 'vision_gateway_requests_total{code="CANCELLED",rpc="Caption"} 1.0')
    for scope in ("slow", "slower"):
        await until(gateway, f'vision_gateway_inflight{{scope="{scope}"}} 0.0')


async def test_a_shadow_is_compared_and_its_cost_is_its_own(start, ledger_has):
    gateway = await start(
        models={"given": script(), "shadow": dear(answer="a dog")},
        routes={"default": {"models": ["given"], "shadow": {"model": "shadow", "share": 1}}},
    )

    info = (await gateway.stub.Caption(caption(), timeout=60)).info

    assert ([each.model for each in info.attempts], info.cost_nano_usd) == (["given"], 0)
    await until(gateway, 'vision_gateway_shadows_total{model="shadow",outcome="answered",rpc="Caption"} 1.0')
    labels = 'model="given",other="shadow",rpc="Caption"'
    await until(gateway, f"vision_gateway_agreement_ratio_count{{{labels}}} 1.0")
    await until(gateway, f'vision_gateway_agreement_ratio_bucket{{le="0.95",{labels}}} 1.0')
    assert await ledger_has(2) == [("anonymous", "given", "", False), ("shadow", "shadow", "", True)]


async def test_the_shadow_s_budget_bounds_it_and_not_its_callers(start, ledger_has):
    gateway = await start(
        models={"given": dear(), "shadow": dear()},
        routes={"default": {"models": ["given"], "shadow": {"model": "shadow", "share": 1}}},
        principals={"anonymous": {}, "shadow": {"budget": {"day": "0"}}},
    )

    await gateway.stub.Caption(caption(), timeout=60)

    await until(gateway, 'vision_gateway_shadows_total{model="shadow",outcome="failed",rpc="Caption"} 1.0')
    assert await ledger_has(1) == [("anonymous", "given", "", True)]


async def test_a_gateway_that_stops_waits_for_no_shadow(start):
    gateway = await start(
        models={"given": script(), "shadow": script(**HANGS)},
        routes={"default": {"models": ["given"], "shadow": {"model": "shadow", "share": 1}}},
    )

    await gateway.stub.Caption(caption(), timeout=60)

    # What the fixture does next, the end of this gateway, comes long before the shadow's.
    await until(gateway, 'vision_gateway_inflight{scope="shadow"} 1.0')
