"""Images that are held after their calls, and how often one is named by its digest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import Counter, Gauge

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry


class ImageMetrics:
    """Images that are held after their calls, and how often one is named by its digest."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Registers every instrument with *registry*, once per process."""
        self._held = Gauge(
            "vision_gateway_held_image_bytes",
            "Memory of images held after their calls.",
            multiprocess_mode="livesum",
            registry=registry,
        )
        self._named = Counter(
            "vision_gateway_images_named_total",
            "Images named by their digest instead of being sent: found, or unknown here.",
            ["outcome"],
            registry=registry,
        )
        for outcome in ("found", "unknown"):
            self._named.labels(outcome)

    def images_held(self, byte_count: int) -> None:
        """Records how much memory the images take that are held now."""
        self._held.set(byte_count)

    def image_named(self, *, found: bool) -> None:
        """Counts an image that a caller named by its digest."""
        self._named.labels("found" if found else "unknown").inc()
