"""The ledger: one durable row for every attempt at a model, in SQLite or PostgreSQL."""

from __future__ import annotations

from gateway.ledger.table import LedgerUnavailable, Row
from gateway.ledger.writer import Ledger

__all__ = ["Ledger", "LedgerUnavailable", "Row"]
