"""Buckets and units that several instruments share."""

from __future__ import annotations

# Each edge is a series for each RPC and model: no more of them than the questions need. Seconds.
LONG = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 60.0, 300.0)
SHORT = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
NANO_USD = 1e-9
