"""What callers are told, what is counted and what is in the ledger is the same money."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys

import grpc
import pytest

from gateway import app
from gateway.ledger import report
from gateway.settings import SettingsError, load
from tests.fixtures.pictures import encode, stored
from tests.fixtures.running_gateway import FREE_PORTS
from visiongateway.v1 import image_pb2, vision_service_pb2 as pb

SCRIPT = ["OK", "REFUSED", "UNUSABLE_ANSWER", "UPSTREAM_RATE_LIMITED", "TRUNCATED_ANSWER", "OK", "OK"]


def scripted(**options):
    price = {"input": "0.061", "output": "0.333", "cached_input": "0.007"}
    return {"kind": "fake", "profile": "gemma4", "price": price, **options}


@pytest.fixture
def caption():
    def make():
        return pb.CaptionRequest(image=image_pb2.Image(data=encode(stored(), "PNG")))

    return make


async def test_the_ledger_has_what_callers_were_told_to_the_nano_dollar(start_gateway, caption, url):
    gateway = await start_gateway(
        models={
            "first": scripted(outcomes=SCRIPT, repeat=True),
            "second": scripted(output_tokens=77, outcomes=["OK", "REFUSED"], repeat=True),
            "free": scripted(price="free"),
        },
        ledger={"url": url},
    )

    async def cost_of(_):
        call = gateway.stub.Caption(caption(), timeout=30)
        try:
            return (await call).info.cost_nano_usd
        except grpc.aio.AioRpcError as failure:
            return int(dict(failure.trailing_metadata())["x-vision-cost-nano-usd"])

    told = sum(await asyncio.gather(*map(cost_of, range(60))))
    [total] = await asyncio.to_thread(report.usage, url)
    metrics = (await gateway.get("/metrics"))[1]
    counted = sum(
        float(each) for each in re.findall(r"^vision_gateway_cost_usd_total\{.*\} (.*)$", metrics, re.MULTILINE)
    )

    assert told > 0
    assert (total["cost_nano_usd"], round(counted * 1e9)) == (told, told)
    assert total["attempts"] > 60


async def test_a_call_that_is_given_up_is_in_the_ledger_at_an_estimate(start_gateway, caption, tmp_path):
    url = f"sqlite:///{tmp_path}/ledger.db"
    gateway = await start_gateway(models={"slow": scripted(delay_s=60)}, ledger={"url": url})
    call = gateway.stub.Caption(caption(), timeout=30)
    while 'vision_gateway_inflight{scope="slow"} 1.0' not in (await gateway.get("/metrics"))[1]:  # noqa: ASYNC110  seen from outside
        await asyncio.sleep(0.02)

    call.cancel()
    lines = []
    async with asyncio.timeout(10):
        while not lines:
            await asyncio.sleep(0.02)
            lines = await asyncio.to_thread(report.usage, url, by=("model", "rpc", "principal"))

    [line] = lines
    assert (line["model"], line["rpc"], line["principal"], line["failed"]) == ("slow", "Caption", "anonymous", 1)
    assert line["image_tokens"] > 0
    assert line["cost_nano_usd"] == line["estimated_nano_usd"] == line["input_tokens"] * 61


async def test_a_gateway_whose_ledger_cannot_be_opened_does_not_start():
    settings = load(models={"m": scripted()}, server=FREE_PORTS, ledger={"url": "sqlite:////proc/none/ledger.db"})

    with pytest.raises(SettingsError) as failed:
        await app.run(settings, stop=asyncio.Event())

    assert failed.value.problems == [
        "ledger.url: sqlite:////proc/none/ledger.db cannot be opened: No such file or directory"
    ]


def test_the_ledger_is_a_file_in_the_state_folder_unless_the_settings_say_otherwise(monkeypatch, tmp_path):
    monkeypatch.delenv("VISION_GATEWAY_LEDGER__URL")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))

    assert load(models={"m": scripted()}).ledger.url == f"sqlite:///{tmp_path}/vision-gateway/ledger.db"


def test_a_url_of_another_kind_is_refused_without_being_repeated():
    with pytest.raises(SettingsError) as failed:
        load(models={"m": scripted()}, ledger={"url": "mysql://me:secret@host/x"})

    assert failed.value.problems == ['ledger.url: must be sqlite:///PATH, postgresql://..., or "off"']


def test_serve_says_in_one_line_that_the_ledger_cannot_be_opened(tmp_path):
    serving = subprocess.run(
        [
            sys.executable,
            "-m",
            "gateway.cli",
            "serve",
            "--grpc-address",
            "127.0.0.1:0",
            "--http-address",
            "127.0.0.1:0",
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={
            "PYTHONPATH": ":".join(sys.path),
            "VISION_GATEWAY_MODELS": json.dumps({"m": scripted()}),
            "VISION_GATEWAY_LEDGER__URL": f"sqlite:///{tmp_path}",
        },
    )

    problem = f"ledger.url: sqlite:///{tmp_path} cannot be opened: SQLITE_CANTOPEN"
    assert (serving.returncode, serving.stderr.splitlines()) == (1, [problem])
