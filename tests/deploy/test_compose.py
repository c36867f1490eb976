"""deploy/compose.yaml, read by Docker Compose itself: it checks its own schema, and needs no Docker for that."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

DEPLOY = Path(__file__).parents[2] / "deploy"
COMPOSE = Path(sys.executable).with_name("docker-compose")
PROFILES = ("cpu", "vllm", "trtllm")

every_profile = pytest.mark.parametrize("profile", PROFILES)


def compose(*arguments, path=DEPLOY / "compose.yaml", **environment):
    return subprocess.run(
        [COMPOSE, "-f", path, "config", *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", **environment},
    )


@cache
def services(profile):
    read = compose("--format", "json", COMPOSE_PROFILES=profile)
    assert (read.returncode, read.stderr) == (0, "")
    return json.loads(read.stdout)["services"]


def settings(profile):
    return tomllib.loads((DEPLOY / "compose" / f"{profile}.toml").read_text())


def test_a_wrong_file_would_be_refused(tmp_path):
    wrong = tmp_path / "compose.yaml"
    wrong.write_text((DEPLOY / "compose.yaml").read_text().replace("stop_grace_period:", "stop_grace_time:"))

    read = compose("-q", path=wrong, COMPOSE_PROFILES="cpu")

    assert read.returncode != 0
    assert "stop_grace_time" in read.stderr


def test_without_a_profile_it_says_which_there_are():
    read = compose("-q")

    assert read.returncode != 0
    assert "COMPOSE_PROFILES is missing a value: is cpu, vllm or trtllm" in read.stderr


@every_profile
def test_each_profile_starts_its_own_triton_beside_the_rest(profile):
    assert services(profile).keys() == {"gateway", "grafana", "prometheus", "redis", f"triton-{profile}"}
    assert services(profile)[f"triton-{profile}"]["networks"]["default"]["aliases"] == ["triton"]


@every_profile
def test_every_service_is_pinned_and_may_do_little(profile):
    for name, each in services(profile).items():
        assert each["image"].rpartition(":")[2] not in {"", "latest"}, name
        assert each["read_only"] is True, name
        assert each["cap_drop"] == ["ALL"], name
        assert each["security_opt"] == ["no-new-privileges:true"], name
        # The gateway's check is its image's.
        assert "healthcheck" in each or name == "gateway", name
        assert {port["host_ip"] for port in each.get("ports", ())} <= {"127.0.0.1"}, name


@every_profile
def test_what_is_mounted_and_built_is_there(profile):
    for name, each in services(profile).items():
        sources = (
            [Path(mount["source"]) for mount in each["volumes"] if mount["type"] == "bind"] if "volumes" in each else []
        )
        assert all(path.exists() for path in sources if path != DEPLOY / "weights"), name
        if "build" in each:
            assert (Path(each["build"]["context"]) / each["build"]["dockerfile"]).is_file(), name


@every_profile
def test_its_settings_are_fine_and_the_ones_that_are_mounted(profile, tmp_path):
    told = (DEPLOY / "compose" / f"{profile}.toml").read_text()
    (tmp_path / "openai_api_key").write_text("none")
    path = tmp_path / "gateway.toml"
    path.write_text(told.replace("/run/secrets", str(tmp_path)))

    checked = subprocess.run(
        [Path(sys.executable).with_name("vision-gateway"), "check-settings", path],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert (checked.returncode, checked.stderr) == (0, "")
    assert services(profile)["gateway"]["command"][-1] == f"/etc/vision-gateway/{profile}.toml"


@every_profile
def test_what_settings_reach_is_a_service(profile):
    told = settings(profile)
    addresses = [each["address"] for each in told["models"].values() if "address" in each]
    hosts = [urlsplit(each.replace("dns:///", "dns://")).netloc for each in (*addresses, told["budgets"]["store"])]

    assert hosts == ["triton:8001", "redis:6379"]
    secrets = {each["target"] for each in services(profile)["gateway"]["secrets"]}
    files = {each["api_key_file"] for each in told["models"].values() if "api_key_file" in each}
    assert files <= secrets


@every_profile
def test_prometheus_scrapes_and_grafana_asks_services(profile):
    scraped = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())["scrape_configs"]
    (source,) = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/prometheus.yaml").read_text())["datasources"]
    known = services(profile).keys() | {"triton"}
    targets = [target for job in scraped for static in job["static_configs"] for target in static["targets"]]

    assert {urlsplit(f"//{target}").hostname for target in targets} <= known
    assert urlsplit(source["url"]).hostname in known


@every_profile
def test_the_gateway_is_given_the_time_that_its_end_takes(profile):
    ledger_s = 10
    grace_s = settings(profile)["server"].get("grace_s", 30)

    assert services(profile)["gateway"]["stop_grace_period"] == f"{grace_s + ledger_s + 10}s"


@pytest.mark.parametrize("profile", ["vllm", "trtllm"])
def test_engines_of_gemma_4_have_a_gpu_shared_memory_and_the_weights(profile):
    triton = services(profile)[f"triton-{profile}"]
    (device,) = triton["deploy"]["resources"]["reservations"]["devices"]

    assert device["capabilities"] == ["gpu"]
    assert triton["shm_size"] == str(2 * 1024**3)
    assert [(each["target"], each["read_only"]) for each in triton["volumes"]] == [("/models/gemma-4-26B-A4B-it", True)]
