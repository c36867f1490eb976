"""Starts, watches and stops a Triton of our own, on this machine and without a GPU."""

from __future__ import annotations

from gateway.tritonserver.installation import TritonUnavailable
from gateway.tritonserver.launcher import EmbeddedTriton, embedded_triton, model_repository
from gateway.tritonserver.process import Ports, TritonFailed

__all__ = ["EmbeddedTriton", "Ports", "TritonFailed", "TritonUnavailable", "embedded_triton", "model_repository"]
