"""A model as the policies see it: an ask goes in, a typed answer comes out."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING

from gateway import genai, tracing
from gateway.brief import brief, prompt_version
from gateway.domain import Answer, Completion, Prompt
from gateway.errors import BrokenOff, DeadlineExceeded, DeadlineTooShort, GatewayError
from gateway.profiles import Sampling
from gateway.usage import Usage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gateway.backends import Backend
    from gateway.brief import Brief
    from gateway.domain import Ask, Clock, ImagePlan, SentImage, Sink
    from gateway.imaging import Preparer
    from gateway.profiles import Profile
    from gateway.tasks import AnyTask

# Below this no model answers; starting would only cost.
_SHORTEST_S = 0.02


class ProfiledModel:
    """Asks one backend in the words of its family, and reads its answers."""

    def __init__(  # noqa: PLR0913  the parts it is made of, each named at the call
        self,
        *,
        name: str,
        kind: str,
        backend: Backend,
        profile: Profile,
        tasks: Mapping[str, AnyTask],
        preparer: Preparer,
        clock: Clock,
        tells_trace: bool = False,
    ) -> None:
        """*name* is the operator's name of the model, *kind* that of its backend.

        With *tells_trace* it is told the trace that it is asked in.
        """
        self._name = name
        self._kind = kind
        self._backend = backend
        self._profile = profile
        self._tasks = tasks
        self._preparer = preparer
        self._clock = clock
        self._tells_trace = tells_trace
        self._span = f"{genai.OPERATION} {name}"

    async def answer(self, ask: Ask) -> Answer:
        """Prepares the images, asks the backend once, and parses what it says."""
        try:
            return await self._answer(ask)
        except GatewayError as exc:
            if ask.sink is not None and ask.sink.committed:
                # The caller has read what this model wrote: no other one can go on from there.
                exc.elsewhere = False
            raise

    async def ready(self) -> bool:
        """Tells whether the backend can be asked."""
        return await self._backend.ready()

    async def _answer(self, ask: Ask) -> Answer:
        task = self._tasks[ask.query.rpc]
        told = brief(ask, self._name, self._profile, self._tasks)
        plans = told.plans
        images = await self._prepare(ask, plans)
        prompt = self._prompt(ask, told)
        completion = await self._complete(ask, told, prompt, images)
        try:
            text = self._profile.read(completion.text)
            response = task.parse(text, ask.query, self._profile, plans[0])
            doubt = next(task.left_out(text, response, ask.query), "")
        except GatewayError as exc:
            # What cannot be used was billed all the same.
            exc.usage = completion.usage
            exc.service_tier = completion.service_tier.value
            exc.estimated = completion.estimated
            exc.provider_model = completion.provider_model
            raise
        return Answer(
            response=response,
            completion=completion,
            model=self._name,
            backend=self._kind,
            prompt_version=prompt_version(self._profile, task),
            sent=images[0].plan,
            sent_bytes=len(images[0].data),
            doubt=doubt,
        )

    async def _prepare(self, ask: Ask, plans: tuple[ImagePlan, ...]) -> list[SentImage]:
        started = self._clock()
        with tracing.span("image") as span:
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
            images = [job.result() for job in jobs]
            if span:
                span.set(genai.images(ask.images, images))
        return images

    def _prompt(self, ask: Ask, told: Brief) -> Prompt:
        wording = told.wording
        options = ask.options
        # A family without sampling settings refuses to be given any: the caller's are then ignored, as documented.
        sampling = self._profile.sampled(ask.query)
        if options.temperature is not None and self._profile.sampling:
            # Whoever asks for a temperature wants sampling, also where the task by itself does without.
            sampling = Sampling(temperature=options.temperature, top_p=sampling.top_p)
        return Prompt(
            rpc=ask.query.rpc,
            system=wording.system,
            user=wording.user,
            schema=wording.schema if self._profile.structured_output else None,
            schema_name=ask.query.rpc.lower(),
            max_output_tokens=told.max_output_tokens,
            reasoning=options.reasoning,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            seed=options.seed,
            service_tier=options.service_tier,
            request_id=ask.request_id,
        )

    async def _complete(self, ask: Ask, told: Brief, prompt: Prompt, images: list[SentImage]) -> Completion:
        started, reader_s = self._clock(), ask.trace.reader_s
        left = ask.deadline - started
        if left < _SHORTEST_S:
            raise DeadlineTooShort(f"{max(left, 0.0):.3f} s are left, too few to ask {self._name}")
        # Should the call be given up, it may be billed, and nobody will tell for what.
        ask.trace.asked = Usage(input_text=told.text_tokens, input_image=told.image_tokens)
        streams = ask.sink is not None and self._streams(ask)
        with tracing.span(self._span, is_client=True) as span:
            if span:
                span.set(genai.asked(prompt, self._kind, self._name, streams=streams))
            if self._tells_trace and (here := tracing.current()):
                prompt = replace(prompt, trace_headers=here.headers)
            try:
                if ask.sink is not None and streams:
                    completion = await self._stream(ask, ask.sink, prompt, images)
                else:
                    completion = await self._backend.complete(prompt, images, timeout_s=left)
            finally:
                ask.trace.upstream_s += self._clock() - started - (ask.trace.reader_s - reader_s)
            if span:
                span.set(genai.answered(completion))
        return completion

    def _streams(self, ask: Ask) -> bool:
        # What such a family writes is JSON of its own.
        return self._backend.streams and not self._profile.takes_query and self._tasks[ask.query.rpc].streams(ask.query)

    async def _stream(self, ask: Ask, sink: Sink, prompt: Prompt, images: list[SentImage]) -> Completion:
        """Hands over the text as it comes, without the white space around it; the first of it commits the call.

        Until then the model has its share of the time; then all of it, for no other model can go on from there.
        """
        now = self._clock()
        try:
            async with asyncio.timeout(None if ask.until is None else ask.deadline - now) as share:
                return await self._hand_over(sink, prompt, images, share, (ask.until or ask.deadline) - now)
        except TimeoutError:
            raise DeadlineExceeded(f"{self._name} did not begin to answer in its share of the time") from None

    async def _hand_over(
        self, sink: Sink, prompt: Prompt, images: list[SentImage], share: asyncio.Timeout, left: float
    ) -> Completion:
        read = self._profile.streamed()
        given, blank = 0, ""
        async with aclosing(self._backend.stream(prompt, images, timeout_s=left)) as pieces:
            async for piece in pieces:
                # At the end it is known what of the answer was held back, as it could have been no part of it.
                text = self._profile.read(piece.text)[given:] if isinstance(piece, Completion) else read(piece)
                given += len(text)
                text = blank + text
                words = text.rstrip()
                blank = text[len(words) :]
                if words := words if sink.committed else words.lstrip():
                    if not sink.committed:
                        tracing.event("first_text")
                        share.reschedule(None)
                    await sink.write(words)
                if isinstance(piece, Completion):
                    return piece
        raise BrokenOff("the model's answer has no end")
