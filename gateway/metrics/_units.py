"""Buckets and units that several instruments share."""

from __future__ import annotations

# Seconds. OpenTelemetry's edges for the duration of GenAI operations, and two more: models may take minutes.
LONG = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92, 163.84, 327.68)
SHORT = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
NANO_USD = 1e-9
