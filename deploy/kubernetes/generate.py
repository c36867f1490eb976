"""Writes the rules of deploy/prometheus as Prometheus Operator wants them: `python -m deploy.kubernetes.generate`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

SOURCE = Path(__file__).parents[1] / "prometheus"
TARGET = Path(__file__).parent / "components" / "monitoring" / "rules.yaml"
_HEAD = "# Made of deploy/prometheus/*.rules.yml by `python -m deploy.kubernetes.generate`.\n"


def rules() -> dict[str, Any]:
    """Gives a PrometheusRule with every group of recording and alert rules."""
    files = [SOURCE / "recording.rules.yml", SOURCE / "alerts.rules.yml"]
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "vision-gateway", "labels": {"app.kubernetes.io/name": "vision-gateway"}},
        "spec": {"groups": [group for file in files for group in yaml.safe_load(file.read_text())["groups"]]},
    }


if __name__ == "__main__":
    TARGET.write_text(_HEAD + yaml.safe_dump(rules(), sort_keys=False, width=1000))
