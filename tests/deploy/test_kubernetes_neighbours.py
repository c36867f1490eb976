"""What deploy/kubernetes has of deploy/prometheus, deploy/grafana and deploy/envoy, and that it fits the gateway."""

from __future__ import annotations

import pytest
import yaml

from deploy.kubernetes.generate import TARGET, rules
from tests.fixtures.kustomize import FOLDER, named, of_kind, selects, settings


@pytest.mark.parametrize("overlay", ["vllm", "envoy"])
def test_gateways_scale_by_a_metric_that_they_have(overlay):
    scaler = named(overlay, "HorizontalPodAutoscaler", "gateway")["spec"]
    metric = scaler["metrics"][0]["pods"]
    gateway = named(overlay, scaler["scaleTargetRef"]["kind"], scaler["scaleTargetRef"]["name"])
    documented = (FOLDER.parents[1] / "docs" / "metrics.md").read_text()

    assert "replicas" not in gateway["spec"]
    assert metric["metric"] == {"name": "vision_gateway_inflight", "selector": {"matchLabels": {"scope": "server"}}}
    assert f"`{metric['metric']['name']}`" in documented
    assert int(metric["target"]["averageValue"]) < settings(overlay)["server"]["max_inflight"]


@pytest.mark.parametrize("overlay", ["vllm", "envoy"])
def test_services_are_scraped_under_the_jobs_that_rules_and_dashboards_name(overlay):
    for job, port in (("vision-gateway", "http"), ("triton", "metrics")):
        monitor = named(overlay, "ServiceMonitor", job)
        (service,) = (
            each
            for each in of_kind(overlay, "Service")
            if selects(monitor["spec"]["selector"], each["metadata"]["labels"])
        )

        assert monitor["apiVersion"] == "monitoring.coreos.com/v1"
        assert service["metadata"]["labels"][monitor["spec"]["jobLabel"]] == job
        assert [each["port"] for each in monitor["spec"]["endpoints"]] == [port]
        assert port in {each["name"] for each in service["spec"]["ports"]}


def test_the_operators_rules_are_those_of_prometheus():
    assert yaml.safe_load(TARGET.read_text()) == rules()
    assert named("vllm", "PrometheusRule", "vision-gateway")["spec"] == rules()["spec"]


def test_every_dashboard_is_in_the_config_map_that_grafana_looks_for():
    dashboards = named("vllm", "ConfigMap", "vision-gateway-dashboards")
    files = (FOLDER.parent / "grafana" / "dashboards").glob("*.json")

    assert dashboards["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert dashboards["data"] == {each.name: each.read_text() for each in files}
    # What may stand in one.
    assert sum(map(len, dashboards["data"].values())) < 1024 * 1024


def test_envoy_has_the_configuration_that_is_tested():
    (held,) = (each for each in of_kind("envoy", "ConfigMap") if each["metadata"]["name"].startswith("envoy-"))
    (upstream,) = yaml.safe_load(held["data"]["envoy.yaml"])["static_resources"]["clusters"]
    address = upstream["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"]["socket_address"]
    service = named("envoy", "Service", address["address"])["spec"]

    assert held["data"]["envoy.yaml"] == (FOLDER.parent / "envoy" / "envoy.yaml").read_text()
    # One address for each replica.
    assert service["clusterIP"] == "None"
    assert address["port_value"] in {each["port"] for each in service["ports"]}
