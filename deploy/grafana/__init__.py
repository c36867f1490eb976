"""Grafana's dashboards as code: `make dashboards` writes them to `dashboards/` as Grafana's JSON."""

from __future__ import annotations
