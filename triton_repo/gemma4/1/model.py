"""Where Triton looks for a model; the package beside this file is it."""

from __future__ import annotations

from gemma4_serving.model import TritonPythonModel

__all__ = ["TritonPythonModel"]
