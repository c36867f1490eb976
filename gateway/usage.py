"""Counts what a model read and wrote, in buckets that add up to what is billed."""

from __future__ import annotations

from dataclasses import dataclass

# What is expected of text before anybody counts it: English prose in UTF-8, for the tokenizers of Gemma and GPT.
BYTES_PER_TOKEN = 4


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one or several attempts. No token is in two buckets."""

    input_text: int = 0
    input_image: int = 0
    cached_input: int = 0
    output: int = 0
    reasoning: int = 0

    def __add__(self, other: Usage) -> Usage:
        """Adds bucket by bucket."""
        return Usage(
            self.input_text + other.input_text,
            self.input_image + other.input_image,
            self.cached_input + other.cached_input,
            self.output + other.output,
            self.reasoning + other.reasoning,
        )

    @property
    def input_total(self) -> int:
        """All tokens read, cached ones included."""
        return self.input_text + self.input_image + self.cached_input

    @property
    def output_total(self) -> int:
        """All tokens written, reasoning included."""
        return self.output + self.reasoning

    @classmethod
    def billed(
        cls,
        *,
        input_total: int,
        output_total: int,
        image: int,
        cached: int = 0,
        reasoning: int = 0,
    ) -> Usage:
        """Parts a provider's totals, in which cached input and reasoning are included.

        *image* is the share that the model's published rule gives; it is cut to what was not cached, so that
        the buckets always add up to *input_total* and *output_total*.
        """
        cached = min(max(cached, 0), input_total)
        fresh = input_total - cached
        image = min(max(image, 0), fresh)
        reasoning = min(max(reasoning, 0), output_total)
        return cls(fresh - image, image, cached, output_total - reasoning, reasoning)
