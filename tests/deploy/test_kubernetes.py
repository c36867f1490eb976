"""What Kustomize makes of deploy/kubernetes, held against Kubernetes' own schemas and against itself.

Of custom resources (ServiceMonitor, PrometheusRule) there is no schema here; what matters in them is looked at by hand.
"""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

import kubernetes_validate
import pytest

from tests.fixtures.kustomize import (
    every_overlay,
    named,
    of_kind,
    pods,
    ports,
    rendered,
    selected,
    selects,
    settings,
    workloads,
)

# preStop's `sleep` came with 1.30, as did unhealthyPodEvictionPolicy for good with 1.31.
VERSIONS = ("1.31", "1.37")
CUSTOM = {"ServiceMonitor", "PrometheusRule"}


@every_overlay
@pytest.mark.parametrize("version", VERSIONS)
def test_every_resource_is_one_of_kubernetes(overlay, version):
    for each in rendered(overlay):
        if each["kind"] not in CUSTOM:
            kubernetes_validate.validate(each, version, strict=True)


def test_the_schemas_would_refuse_a_wrong_field():
    gateway = named("cpu", "Deployment", "gateway")

    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate({**gateway, "spec": {**gateway["spec"], "replica": 3}}, VERSIONS[-1], strict=True)


@every_overlay
def test_no_two_resources_have_one_name_and_all_are_in_the_namespace(overlay):
    names = Counter((each["kind"], each["metadata"]["name"]) for each in rendered(overlay))

    assert {name: count for name, count in names.items() if count > 1} == {}
    assert {each["metadata"].get("namespace") for each in rendered(overlay) if each["kind"] != "Namespace"} == {
        "vision-gateway"
    }


@every_overlay
def test_the_settings_of_the_overlay_are_fine(overlay, tmp_path):
    text = named(overlay, "ConfigMap", "gateway-settings")["data"]["gateway.toml"]
    (tmp_path / "api-key").write_text("none")
    path = tmp_path / "gateway.toml"
    path.write_text(text.replace("/run/secrets/vision-gateway", str(tmp_path)))

    checked = subprocess.run(
        [Path(sys.executable).with_name("vision-gateway"), "check-settings", path],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert (checked.returncode, checked.stderr) == (0, "")
    assert settings(overlay)["server"]["grpc_address"] == "0.0.0.0:50051"


@every_overlay
def test_what_settings_reach_is_a_port_of_a_service(overlay):
    told = settings(overlay)
    stores = [told[table]["store"] for table in ("budgets", "cache") if "store" in told.get(table, {})]
    addresses = [each["address"] for each in told["models"].values() if "address" in each]
    hosts = [urlsplit(each.replace("dns:///", "dns://")).netloc for each in (*addresses, *stores) if "//" in each]

    for host in hosts:
        name, _, port = host.partition(":")
        assert int(port) in {each["port"] for each in named(overlay, "Service", name)["spec"]["ports"]}
    assert hosts


@every_overlay
def test_services_lead_to_ports_of_pods(overlay):
    for service in of_kind(overlay, "Service"):
        (pod,) = selected(overlay, {"matchLabels": service["spec"]["selector"]})
        assert {each["targetPort"] for each in service["spec"]["ports"]} <= ports(pod).keys()


@every_overlay
def test_selectors_find_the_pods_that_they_are_for(overlay):
    for each in workloads(overlay):
        assert selected(overlay, each["spec"]["selector"]) == [each["spec"]["template"]]
    for each in of_kind(overlay, "PodDisruptionBudget", "NetworkPolicy"):
        assert selected(overlay, each["spec"].get("selector") or each["spec"]["podSelector"])


@every_overlay
def test_network_policies_name_ports_that_are_there(overlay):
    for policy in of_kind(overlay, "NetworkPolicy"):
        mine = [ports(pod) for pod in selected(overlay, policy["spec"]["podSelector"])]
        for rule in policy["spec"].get("ingress", ()):
            assert all(each["port"] in known for each in rule["ports"] for known in mine)
        for rule in policy["spec"].get("egress", ()):
            for peer in rule["to"]:
                if "namespaceSelector" not in peer and "ipBlock" not in peer:
                    theirs = [ports(pod).values() for pod in selected(overlay, peer["podSelector"])]
                    assert theirs
                    assert all(each["port"] in known for each in rule["ports"] for known in theirs)


@every_overlay
def test_every_pod_has_a_policy_for_both_directions(overlay):
    for name, pod in pods(overlay):
        policies = [
            each["spec"]
            for each in of_kind(overlay, "NetworkPolicy")
            if selects(each["spec"]["podSelector"], pod["metadata"]["labels"])
        ]
        assert {direction for each in policies for direction in each["policyTypes"]} == {"Ingress", "Egress"}, name
