"""Dashboards: that the files are what the code says, and that every panel shows something of a gateway at work."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import yaml

from deploy.grafana.generate import DASHBOARDS, FOLDER, generated
from deploy.grafana.triton import GEMMA4, GPU
from tests.fixtures.prometheus import CONFIGURATION
from tests.operate.mixed_traffic import Callers, tables, with_tls, without_store

ROOT = Path(__file__).parents[2]
# Panels that stay empty here, by their row's title, and why.
NOT_HERE = {
    GPU.title: "Triton has nv_gpu_* and nv_energy_consumption only where there is a GPU",
    GEMMA4.title: "the CPU model is not Gemma 4; a test of its own has these",
}
# Metrics that need no panel, and why.
NO_PANEL = {"vision_gateway_spans_dropped_total": "is there only where calls are traced: docs/tracing.md"}
# What first appears at some value is no increase, so that it takes two rounds of calls at least.
ROUNDS = 5


def queries(rows):
    """Gives panel, legend and PromQL of every query, with Grafana's variables filled in."""
    for row in rows:
        for panel in row.panels:
            for query, legend in panel.queries.items():
                filled = query.replace("$__rate_interval", "1m")
                yield panel.title, legend, re.sub(r"\$\w+", ".+", filled)


async def silent(prometheus, rows):
    """Gives the queries that give nothing, or not a number."""
    quiet = []
    for title, legend, query in queries(rows):
        values = [value for _, value in await prometheus.ask(query)]
        if not values or all(math.isnan(value) for value in values):
            quiet.append((title, legend, query))
    return quiet


async def silent_after_calls(prometheus, rows, call):
    """Lets callers call until every query gives something, or long enough."""
    for _ in range(ROUNDS):
        await call()
        await prometheus.scraped()
        if not (quiet := await silent(prometheus, rows)):
            break
    return quiet


def test_the_files_are_what_the_code_says():
    assert {path.name: path.read_text() for path in FOLDER.glob("*.json")} == generated()


def test_no_two_panels_or_dashboards_are_taken_for_one_another():
    built = [json.loads(text) for text in generated().values()]

    for each in built:
        ids = [panel["id"] for panel in each["panels"]]
        titles = [panel["title"] for panel in each["panels"]]
        assert (len(set(ids)), len(set(titles))) == (len(ids), len(titles))
    assert len({each["uid"] for each in built}) == len(DASHBOARDS)


def test_grafana_is_given_the_scrape_interval_that_prometheus_has():
    source = yaml.safe_load((ROOT / "deploy/grafana/provisioning/datasources/prometheus.yaml").read_text())

    configured = yaml.safe_load(CONFIGURATION.read_text())["global"]["scrape_interval"]
    assert source["datasources"][0]["jsonData"]["timeInterval"] == configured


def test_every_metric_is_on_a_panel_or_on_the_list_of_those_that_need_none():
    documented = re.findall(r"^\| `([a-z_]+)` \|", (ROOT / "docs/metrics.md").read_text(), re.MULTILINE)
    text = "".join(query for each in DASHBOARDS for _, _, query in queries(each.rows))

    shown = {name for name in documented if re.search(rf"\b{name}(_bucket|_sum|_count)?\b", text)}

    assert set(documented) - shown == NO_PANEL.keys()


async def test_every_panel_shows_something_of_a_gateway_under_mixed_traffic(
    start_gateway, start_prometheus, triton, llmock, tmp_path
):
    llmock.limits(rpm=600, tpm=1_000_000)
    gateway = await start_gateway(**tables(triton, llmock, tmp_path))
    storeless = await start_gateway(**without_store())
    secured = await start_gateway(**with_tls(tmp_path))
    gateways = [each.addresses.http for each in (gateway, storeless, secured)]
    prometheus = await start_prometheus(vision_gateway=gateways, triton=[triton.metrics_url[7:-8]])
    callers, of_storeless = Callers(gateway), Callers(storeless)
    rows = [row for each in DASHBOARDS for row in each.rows if row.title not in NOT_HERE]

    async def call():
        await callers.call()
        await of_storeless.ask("Caption")

    assert await silent_after_calls(prometheus, rows, call) == []


async def test_the_panels_of_gemma4_show_something_of_it(start_gateway, start_prometheus, gemma4):
    address = gemma4.triton.grpc_address
    gateway = await start_gateway(
        models={"gemma": {"kind": "triton", "address": address, "model": "gemma4", "price": "free"}}
    )
    metrics = gemma4.triton.metrics_url[7:-8]
    prometheus = await start_prometheus(vision_gateway=[gateway.addresses.http], triton=[metrics])
    callers = Callers(gateway)

    assert await silent_after_calls(prometheus, [GEMMA4], lambda: callers.ask("Caption")) == []
