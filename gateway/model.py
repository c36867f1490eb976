"""A model as the policies see it: an ask goes in, a typed answer comes out."""

from __future__ import annotations

import asyncio
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import orjson

from gateway.domain import Answer, Prompt, Quote, Reasoning, ServiceTier
from gateway.errors import DeadlineTooShort, GatewayError, UnsupportedByModel
from gateway.profiles import Sampling, text_tokens
from gateway.tasks import Wording
from gateway.usage import Usage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gateway.backends import Backend
    from gateway.domain import Ask, Clock, Completion, ImagePlan, Options, SentImage
    from gateway.imaging import Preparer
    from gateway.pricing import Price
    from gateway.profiles import Profile
    from gateway.tasks import AnyTask

# Below this no model answers; starting would only cost.
_SHORTEST_S = 0.02
# Between the medians that Roboflow's comparison gives for Gemma 4 26B A4B (214) and GPT-5.5 (138).
_TYPICAL_OUTPUT = 176
# English prose in UTF-8, for either tokenizer.
_BYTES_PER_TOKEN = 4
# Tokens left for thoughts where the caller sets no bound: an answer cut off after long thinking is paid for nothing.
_THOUGHT_ROOM = {Reasoning.NONE: 0, Reasoning.LOW: 2_048, Reasoning.MEDIUM: 8_192, Reasoning.HIGH: 24_576}
_MOST_OUTPUT = 32_768
_NO_SAMPLING = Sampling()


class ProfiledModel:
    """Asks one backend in the words of its family, and reads its answers."""

    def __init__(  # noqa: PLR0913  the parts it is made of, each named at the call
        self,
        *,
        name: str,
        kind: str,
        backend: Backend,
        profile: Profile,
        price: Price,
        tasks: Mapping[str, AnyTask],
        preparer: Preparer,
        clock: Clock,
    ) -> None:
        """*name* is the operator's name of the model, *kind* that of its backend."""
        self._name = name
        self._kind = kind
        self._backend = backend
        self._profile = profile
        self._price = price
        self._tasks = tasks
        self._preparer = preparer
        self._clock = clock

    async def answer(self, ask: Ask) -> Answer:
        """Prepares the images, asks the backend once, and parses what it says."""
        task = self._tasks[ask.query.rpc]
        plans = self._plans(ask)
        images = await self._prepare(ask, plans)
        prompt = self._prompt(ask, self._wording(ask, plans[0]))
        completion = await self._complete(ask, prompt, images)
        try:
            text = self._profile.read(completion.text)
            response = task.parse(text, ask.query, self._profile, plans[0])
        except GatewayError as exc:
            # What cannot be used was billed all the same.
            exc.usage = completion.usage
            exc.service_tier = completion.service_tier.value
            raise
        return Answer(
            response=response,
            completion=completion,
            model=self._name,
            backend=self._kind,
            prompt_version=f"{self._profile.family}/{self._profile.version}/{task.rpc.lower()}/{task.version}",
            sent=images[0],
        )

    async def ready(self) -> bool:
        """Tells whether the backend can be asked."""
        return await self._backend.ready()

    def quote(self, ask: Ask) -> Quote:
        """Prices *ask* before it is asked; calls nobody."""
        plans = self._plans(ask)
        wording = self._wording(ask, plans[0])
        text = wording.system + wording.user + (orjson.dumps(wording.schema).decode() if wording.schema else "")
        reads = Usage(input_text=text_tokens(text), input_image=sum(plan.token_count for plan in plans))
        longest = _most_output(ask.options, wording)
        tier = ask.options.service_tier
        prose = replace(reads, input_text=-(-reads.input_text // _BYTES_PER_TOKEN))
        typical = self._price.cost(prose + Usage(output=min(longest, _TYPICAL_OUTPUT)), tier)
        # A provider may serve, and bill, the standard tier in place of a cheaper one.
        worst = max(self._price.cost(reads + Usage(output=longest), each) for each in (tier, ServiceTier.STANDARD))
        return Quote(reads.input_image, reads.input_total, typical, worst)

    def _plans(self, ask: Ask) -> list[ImagePlan]:
        if len(ask.images) > self._profile.max_images:
            raise UnsupportedByModel(
                f"{self._name} takes at most {self._profile.max_images} image(s); {len(ask.images)} were sent",
                metadata={"limit": "images", "max_images": str(self._profile.max_images)},
            )
        detail = ask.options.image_detail or self._profile.details[ask.query.rpc]
        return [self._profile.plan(image.width_px, image.height_px, detail) for image in ask.images]

    def _wording(self, ask: Ask, plan: ImagePlan) -> Wording:
        if self._profile.takes_query:
            query = {"rpc": ask.query.rpc, **asdict(ask.query)}  # type: ignore[call-overload]  # Every Query is a dataclass.
            return Wording(user=orjson.dumps(query).decode(), max_output_tokens=_TYPICAL_OUTPUT)
        wording: Wording = self._tasks[ask.query.rpc].wording(ask.query, self._profile, plan)
        return wording

    async def _prepare(self, ask: Ask, plans: list[ImagePlan]) -> list[SentImage]:
        started = self._clock()
        try:
            async with asyncio.TaskGroup() as group:
                jobs = [
                    group.create_task(
                        self._preparer.prepare(
                            image, plan, media_types=self._profile.media_types, timeout_s=ask.deadline - started
                        )
                    )
                    for image, plan in zip(ask.images, plans, strict=True)
                ]
        except ExceptionGroup as failed:
            # One failure ends the call, whatever became of the other images.
            raise failed.exceptions[0] from None
        finally:
            ask.trace.image_s += self._clock() - started
        return [job.result() for job in jobs]

    def _prompt(self, ask: Ask, wording: Wording) -> Prompt:
        options = ask.options
        # A family without sampling settings refuses to be given any: the caller's are then ignored, as documented.
        sampling = self._profile.sampling.get(ask.query.rpc, _NO_SAMPLING)
        if options.temperature is not None and self._profile.sampling:
            # Whoever asks for a temperature wants sampling, also where the task by itself does without.
            sampling = Sampling(temperature=options.temperature, top_p=sampling.top_p)
        return Prompt(
            rpc=ask.query.rpc,
            system=wording.system,
            user=wording.user,
            schema=wording.schema if self._profile.structured_output else None,
            schema_name=ask.query.rpc.lower(),
            max_output_tokens=_most_output(options, wording),
            reasoning=options.reasoning,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            seed=options.seed,
            service_tier=options.service_tier,
            request_id=ask.request_id,
        )

    async def _complete(self, ask: Ask, prompt: Prompt, images: list[SentImage]) -> Completion:
        started = self._clock()
        left = ask.deadline - started
        if left < _SHORTEST_S:
            raise DeadlineTooShort(f"{max(left, 0.0):.3f} s are left, too few to ask {self._name}")
        try:
            return await self._backend.complete(prompt, images, timeout_s=left)
        finally:
            ask.trace.upstream_s += self._clock() - started


def _most_output(options: Options, wording: Wording) -> int:
    """Gives the most tokens of answer and thoughts together: the caller's bound, else the task's and room to think."""
    room = wording.max_output_tokens + _THOUGHT_ROOM[options.reasoning]
    return options.max_output_tokens or min(room, _MOST_OUTPUT)
