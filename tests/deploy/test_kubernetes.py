"""What Kustomize makes of deploy/kubernetes, held against Kubernetes' own schemas and against itself.

Of custom resources (ServiceMonitor, PrometheusRule) there is no schema here; what matters in them is looked at by hand.
"""

from __future__ import annotations

import subprocess
import sys
import tomllib
from collections import Counter
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

import kubernetes_validate
import pytest
import yaml

from deploy.kubernetes.generate import TARGET, rules
from visiongateway.v1 import vision_service_pb2 as pb

FOLDER = Path(__file__).parents[2] / "deploy" / "kubernetes"
OVERLAYS = ("cpu", "vllm", "trtllm", "redis", "envoy")
KUBECTL = Path(sys.executable).with_name("kubectl")
# preStop's `sleep` came with 1.30, as did unhealthyPodEvictionPolicy for good with 1.31.
VERSIONS = ("1.31", "1.37")
CUSTOM = {"ServiceMonitor", "PrometheusRule"}
# What whoever deploys brings.
BROUGHT = {("Secret", "gateway-tls"), ("PersistentVolumeClaim", "gemma4-weights")}

every_overlay = pytest.mark.parametrize("overlay", OVERLAYS)


@cache
def rendered(overlay):
    """The resources of an overlay."""
    made = subprocess.run(
        [KUBECTL, "kustomize", FOLDER / "overlays" / overlay], check=True, capture_output=True, text=True, timeout=30
    )
    assert made.stderr == ""
    return [each for each in yaml.safe_load_all(made.stdout) if each]


def of_kind(overlay, *kinds):
    return [each for each in rendered(overlay) if each["kind"] in kinds]


def named(overlay, kind, name):
    (found,) = (each for each in of_kind(overlay, kind) if each["metadata"]["name"] == name)
    return found


def workloads(overlay):
    return of_kind(overlay, "Deployment", "StatefulSet")


def pods(overlay):
    return [(each["metadata"]["name"], each["spec"]["template"]) for each in workloads(overlay)]


def containers(overlay):
    return [(name, one) for name, pod in pods(overlay) for one in pod["spec"]["containers"]]


def settings(overlay):
    return tomllib.loads(named(overlay, "ConfigMap", "gateway-settings")["data"]["gateway.toml"])


def selects(selector, labels):
    known = {"In": lambda each: labels.get(each["key"]) in each["values"]}
    return all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items()) and all(
        known[each["operator"]](each) for each in selector.get("matchExpressions", ())
    )


def selected(overlay, selector):
    """The pods' templates that *selector* finds."""
    return [pod for _, pod in pods(overlay) if selects(selector, pod["metadata"]["labels"])]


def ports(pod):
    return {each["name"]: each["containerPort"] for one in pod["spec"]["containers"] for each in one.get("ports", ())}


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


@every_overlay
def test_what_pods_mount_is_there_or_brought_or_may_be_missing(overlay):
    there = {(each["kind"], each["metadata"]["name"]) for each in rendered(overlay)} | BROUGHT
    for workload in workloads(overlay):
        spec = workload["spec"]["template"]["spec"]
        claims = {each["metadata"]["name"] for each in workload["spec"].get("volumeClaimTemplates", ())}
        volumes = {each["name"]: each for each in spec.get("volumes", ())}
        for volume in volumes.values():
            if "configMap" in volume:
                assert ("ConfigMap", volume["configMap"]["name"]) in there
            if "secret" in volume and not volume["secret"].get("optional"):
                assert ("Secret", volume["secret"]["secretName"]) in there
            if "persistentVolumeClaim" in volume:
                assert ("PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]) in there
        mounted = {each["name"] for one in spec["containers"] for each in one["volumeMounts"]}
        assert mounted == volumes.keys() | claims
        for one in spec["containers"]:
            assert all(each["valueFrom"]["secretKeyRef"]["optional"] for each in one.get("env", ()))


@every_overlay
def test_files_that_a_pod_mounts_one_by_one_are_in_the_config_map(overlay):
    for _, pod in pods(overlay):
        maps = {
            each["name"]: each["configMap"]["name"] for each in pod["spec"].get("volumes", ()) if "configMap" in each
        }
        for one in pod["spec"]["containers"]:
            for mount in one["volumeMounts"]:
                if "subPath" in mount:
                    held = named(overlay, "ConfigMap", maps[mount["name"]])
                    assert mount["subPath"] in {**held.get("data", {}), **held.get("binaryData", {})}


@every_overlay
def test_every_container_is_pinned_and_may_do_little(overlay):
    for name, one in containers(overlay):
        registry, _, tag = one["image"].rpartition(":")
        assert "/" in registry, name
        assert tag not in {"", "latest"}, name
        assert one["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }, name
        assert {"cpu", "memory"} <= one["resources"]["requests"].keys(), name
        assert "memory" in one["resources"]["limits"], name
    for name, pod in pods(overlay):
        context = pod["spec"]["securityContext"]
        assert (context["runAsNonRoot"], context["runAsUser"] > 0) == (True, True), name
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert pod["spec"]["automountServiceAccountToken"] is False, name
        assert pod["spec"]["enableServiceLinks"] is False, name


@every_overlay
def test_probes_ask_ports_that_are_there(overlay):
    for name, one in containers(overlay):
        known = {each["name"]: each["containerPort"] for each in one["ports"]}
        for probe in (one["readinessProbe"], one["livenessProbe"], *filter(None, [one.get("startupProbe")])):
            for how in ("httpGet", "tcpSocket"):
                if how in probe:
                    assert probe[how]["port"] in known, name
            if "grpc" in probe:
                assert probe["grpc"]["port"] in known.values(), name


@every_overlay
def test_a_gateway_whose_models_are_down_is_not_restarted_but_not_asked(overlay):
    (gateway,) = named(overlay, "Deployment", "gateway")["spec"]["template"]["spec"]["containers"]

    assert gateway["readinessProbe"]["grpc"]["service"] == pb.DESCRIPTOR.services_by_name["VisionService"].full_name
    assert gateway["livenessProbe"]["httpGet"]["path"] == "/healthz"


@every_overlay
def test_pods_are_given_the_time_that_their_end_takes(overlay):
    template = named(overlay, "Deployment", "gateway")["spec"]["template"]["spec"]
    ledger_s = 10

    assert template["terminationGracePeriodSeconds"] >= settings(overlay)["server"]["grace_s"] + ledger_s
    assert (
        settings(overlay)["server"]["drain_wait_s"] >= 2 * template["containers"][0]["readinessProbe"]["periodSeconds"]
    )


@every_overlay
def test_triton_has_shared_memory_and_the_engine_of_its_image(overlay):
    template = named(overlay, "Deployment", "triton")["spec"]["template"]["spec"]
    (triton,) = template["containers"]
    shared = {each["name"]: each.get("emptyDir") for each in template["volumes"]}
    engine = {"cpu": "cpu", "trtllm": "trtllm"}.get(overlay, "vllm")

    (mount,) = (each for each in triton["volumeMounts"] if each["mountPath"] == "/dev/shm")  # noqa: S108  in a pod
    assert shared[mount["name"]] == {"medium": "Memory", "sizeLimit": "2Gi"}
    assert triton["image"].endswith(f":{engine}-0.1.0")
    assert triton["args"] == ["embedded" if engine == "cpu" else engine]
    assert triton["resources"]["limits"].get("nvidia.com/gpu") == (None if engine == "cpu" else "1")


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
