"""What all tables of the settings have in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Table(BaseModel):
    """A table that knows all of its settings, and does not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)
