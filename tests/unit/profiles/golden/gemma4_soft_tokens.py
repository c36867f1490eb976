"""Writes `gemma4_soft_tokens.csv` with the published rule; needs transformers 5.23 and torch.

python tests/unit/profiles/golden/gemma4_soft_tokens.py
"""

from __future__ import annotations

import random
from pathlib import Path

import transformers
from transformers.models.gemma4.image_processing_pil_gemma4 import get_aspect_ratio_preserving_size

BUDGETS = (70, 140, 280, 560, 1120)
PATCH_PX, POOLED = 16, 3
USUAL = (
    *((640, 427), (640, 480), (800, 600), (1024, 768), (1280, 720), (1600, 1200), (1920, 1080), (2560, 1440)),
    *((3840, 2160), (4032, 3024), (4000, 1000), (1240, 1754), (2480, 3508), (1179, 2556), (1290, 2796)),
    *((1, 1), (2, 3), (16, 16), (47, 47), (48, 48), (49, 49), (64, 64), (224, 224), (336, 336), (512, 512)),
    *((768, 768), (803, 803), (804, 804), (912, 672), (1024, 1024), (2048, 2048), (8000, 8000), (16384, 16384)),
)


def sizes() -> list[tuple[int, int]]:
    """Sizes that cameras, screens and scanners give, each also upright, and others of any shape up to 1:60."""
    chance = random.Random(4)  # noqa: S311  always the same sizes
    odd = set()
    while len(odd) < 200:
        width, height = round(2 ** chance.uniform(0, 14)), round(2 ** chance.uniform(0, 14))
        if max(width, height) <= 60 * min(width, height):
            odd.add((width, height))
    return sorted({*USUAL, *((height, width) for width, height in USUAL), *odd})


def soft_tokens(width: int, height: int, budget: int) -> int:
    """Counts by the published function."""
    tall, wide = get_aspect_ratio_preserving_size(
        height=height,
        width=width,
        patch_size=PATCH_PX,
        max_patches=budget * POOLED**2,
        pooling_kernel_size=POOLED,
    )
    return tall * wide // (PATCH_PX * POOLED) ** 2


rows = [
    "# Soft tokens of an image in Gemma 4, without the two marks around them, for each budget: counted with",
    "# transformers.models.gemma4.image_processing_pil_gemma4.get_aspect_ratio_preserving_size,",
    f"# transformers {transformers.__version__}, by gemma4_soft_tokens.py.",
    ",".join(["width", "height", *(f"t{budget}" for budget in BUDGETS)]),
    *(",".join(map(str, [*size, *(soft_tokens(*size, budget) for budget in BUDGETS)])) for size in sizes()),
]
Path(__file__).with_suffix(".csv").write_text("\n".join(rows) + "\n")
