"""A small vision model for CPUs: reads text, finds objects, names classes, and puts the two RPCs of words together.

It knows nothing of Triton; `model.py` beside this package serves it.
"""

from __future__ import annotations

import os

# ONNX Runtime reports its use to Microsoft from version 1.29 on. It looks at this once, when it is first imported.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
