"""Writes every dashboard as Grafana's JSON: `python -m deploy.grafana.generate`."""

from __future__ import annotations

import json
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from deploy.grafana import cost, models, overview, triton

FOLDER = Path(__file__).parent / "dashboards"
DASHBOARDS = (overview.DASHBOARD, cost.DASHBOARD, models.DASHBOARD, triton.DASHBOARD)


def generated() -> dict[str, str]:
    """Gives the text of each file in `dashboards/`, by its name."""
    return {
        f"{each.uid}.json": json.dumps(each.build().build(), cls=JSONEncoder, indent=2, sort_keys=True) + "\n"
        for each in DASHBOARDS
    }


if __name__ == "__main__":
    for name, text in generated().items():
        (FOLDER / name).write_text(text)
