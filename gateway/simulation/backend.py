"""A model that is not there: it takes the time, and writes the answers, that its behaviour says."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from contextlib import nullcontext
from random import Random
from typing import TYPE_CHECKING, Protocol

from gateway.backends import Whole
from gateway.domain import Completion, SentImage
from gateway.errors import BackendUnavailable, DeadlineExceeded
from gateway.imaging import Preparer
from gateway.simulation import answers
from gateway.usage import BYTES_PER_TOKEN, Usage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.domain import ImagePlan, Prompt, SourceImage
    from gateway.profiles import Profile
    from gateway.simulation.answers import Verdict
    from gateway.simulation.behaviour import Behaviour

# How the stand-in for the file of an image begins, the size of which nobody recorded.
UNKNOWN_SIZE = b"?"


class Script(Protocol):
    """Knows beforehand what every model will answer to every call."""

    def verdict(self, call: str, model: str) -> Verdict:
        """Tells what the answer of *model* to the call with this id is worth."""
        ...


class Unprepared(Preparer):
    """Sends images as they are: nothing is decoded, and nothing takes time."""

    async def prepare(
        self, source: SourceImage, plan: ImagePlan, *, media_types: frozenset[str], timeout_s: float
    ) -> SentImage:
        """Gives the picture in the size of *plan*, without its pixels."""
        return SentImage(source.data, source.media_type, plan)

    async def digest(self, source: SourceImage, *, timeout_s: float) -> bytes:
        """Gives what stands for the picture."""
        return source.data


class Simulated(Whole):
    """The simulated model. Equal seeds give equal answers and times, whichever models are asked besides."""

    def __init__(self, name: str, profile: Profile, behaviour: Behaviour, script: Script, *, seed: int) -> None:
        """*name* is the operator's name of the model."""
        self._name = name
        self._profile = profile
        self._behaviour = behaviour
        self._script = script
        self._seed = seed
        self._places = asyncio.Semaphore(behaviour.capacity) if behaviour.capacity else nullcontext()
        self._asked: Counter[str] = Counter()

    async def complete(self, prompt: Prompt, images: Sequence[SentImage], *, timeout_s: float) -> Completion:
        """Waits for a place and for the answer to be written, or raises as any backend does."""
        call = prompt.request_id
        random = Random(f"{self._seed}:{call}:{self._name}:{self._asked[call]}")  # noqa: S311  it keeps nothing secret
        self._asked[call] += 1
        try:
            async with asyncio.timeout(timeout_s), self._places:
                return await self._write(prompt, images, random)
        except TimeoutError:
            raise DeadlineExceeded("the simulated answer takes longer than was left") from None

    async def ready(self) -> bool:
        """Says that it can always be asked."""
        return True

    async def _write(self, prompt: Prompt, images: Sequence[SentImage], random: Random) -> Completion:
        behaviour = self._behaviour
        if random.random() < behaviour.failures:
            await asyncio.sleep(behaviour.failure_seconds)
            raise BackendUnavailable("a simulated failure")
        written = max(1, round(behaviour.output_tokens * _spread(random, behaviour.output_spread)))
        written = min(written, prompt.max_output_tokens)
        median_s = behaviour.seconds + behaviour.seconds_per_token * written
        await asyncio.sleep(median_s * _spread(random, behaviour.seconds_spread))
        return Completion(
            answers.text(
                prompt.rpc,
                self._script.verdict(prompt.request_id, self._name),
                self._name,
                self._profile,
                images[0].plan,
            ),
            self._read(prompt, images, written),
            provider_model=self._name,
            service_tier=prompt.service_tier,
        )

    def _read(self, prompt: Prompt, images: Sequence[SentImage], written: int) -> Usage:
        seen = sum(image.plan.token_count for image in images)
        told = -(-len(f"{prompt.system}{prompt.user}") // BYTES_PER_TOKEN)
        known = self._behaviour.input_tokens
        if known is not None and images[0].data.startswith(UNKNOWN_SIZE):
            seen, told = min(seen, known), known - min(seen, known)
        return Usage(input_text=told, input_image=seen, output=written)


def _spread(random: Random, sigma: float) -> float:
    """Draws a factor of median 1, log-normal with *sigma*."""
    return math.exp(random.gauss(0.0, sigma)) if sigma else 1.0
