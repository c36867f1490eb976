"""Pods of deploy/kubernetes: what they mount and may do, how they are probed, and how they end."""

from __future__ import annotations

from tests.fixtures.kustomize import containers, every_overlay, named, pods, rendered, settings, workloads
from visiongateway.v1 import vision_service_pb2 as pb

# What whoever deploys brings.
BROUGHT = {("Secret", "gateway-tls"), ("PersistentVolumeClaim", "gemma4-weights")}


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
