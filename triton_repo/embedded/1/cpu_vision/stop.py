"""Ends a running request from another thread."""

from __future__ import annotations

import threading

from onnxruntime import RunOptions

from cpu_vision.outcomes import CancelledError


class Stop:
    """Told once that the caller has gone; work looks at it between its stages."""

    def __init__(self) -> None:
        self._told = threading.Event()
        # ONNX Runtime looks at these options between two operators, so that long networks end midway.
        self.run_options = RunOptions()

    def __bool__(self) -> bool:
        return self._told.is_set()

    def tell(self) -> None:
        """Asks the work to end."""
        self._told.set()
        self.run_options.terminate = True

    def check(self) -> None:
        """Raises `CancelledError` when the work is to end."""
        if self:
            raise CancelledError
