"""How long each model takes for each RPC, learned from its own answers."""

from __future__ import annotations

import math
from collections import defaultdict, deque
from statistics import median

# Few enough to follow a model that gets slower within a minute of calls; many enough for a 95th percentile.
_REMEMBERED = 64
# Of fewer answers, the first one among them perhaps a cold start, nothing is said.
_FEWEST = 5


class Latency:
    """The last 64 durations of answered attempts, per RPC and model; a model that failed says nothing of its speed."""

    def __init__(self) -> None:
        """Knows nothing yet."""
        self._seconds: defaultdict[tuple[str, str], deque[float]] = defaultdict(lambda: deque(maxlen=_REMEMBERED))

    def observe(self, rpc: str, model: str, seconds: float) -> None:
        """Learns that *model* took *seconds*, image work included, to answer a call of *rpc*."""
        self._seconds[rpc, model].append(seconds)

    def expected_s(self, rpc: str, model: str) -> float | None:
        """Gives the median in seconds; None until five answers are known."""
        seconds = self._known(rpc, model)
        return median(seconds) if seconds else None

    def p95_s(self, rpc: str, model: str) -> float | None:
        """Gives the 95th percentile in seconds, by nearest rank; None until five answers are known."""
        seconds = self._known(rpc, model)
        return sorted(seconds)[math.ceil(0.95 * len(seconds)) - 1] if seconds else None

    def _known(self, rpc: str, model: str) -> deque[float] | None:
        seconds = self._seconds.get((rpc, model))
        return seconds if seconds and len(seconds) >= _FEWEST else None
