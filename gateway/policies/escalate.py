"""Asks the cheap model first, and the next one where its answer is doubtful."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from gateway import tracing
from gateway.domain import Outcome
from gateway.errors import BackendUnavailable, DeadlineTooShort, GatewayError, TruncatedAnswer
from gateway.policies import pass_by

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from gateway.domain import Answer, Ask, Clock
    from gateway.latency import Latency
    from gateway.metrics import Metrics
    from gateway.policies import Candidate, Model

DISAGREEMENT = "DISAGREEMENT"
_MARK = "DOUBTFUL:"
# Kept of the caller's time to hand over the answer that is there, should the next model need all of the rest.
_RESERVE_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Which answers are compared with the next model's though nothing about them is doubtful.

    *share* of the calls in [0, 1], drawn by *chance* in [0, 1); below *least* of *agreement*, in [0, 1], the next
    model's answer is given.
    """

    share: float
    least: float
    agreement: Callable[[Ask, Answer, Answer], float]
    chance: Callable[[], float]


@dataclass(frozen=True, slots=True)
class _Said:
    """What *model* said, and the candidates after it; *doubt* is empty where there is none."""

    model: str
    result: Answer | TruncatedAnswer
    doubt: str
    later: Sequence[Candidate]


class Escalate:
    """Passes a doubtful answer over for the next model's, and gives it after all where no other one can be had.

    The last model's answer is given as it is, and so is any that its caller has begun to read.
    """

    def __init__(  # noqa: PLR0913  what it asks and by which rule, each named at the call
        self,
        candidates: Sequence[Candidate],
        *,
        in_turn: Callable[[Sequence[Candidate]], Model],
        doubts: Callable[[Ask, Answer], Iterator[str]],
        sample: Sample | None,
        latency: Latency,
        metrics: Metrics,
        clock: Clock,
    ) -> None:
        """*in_turn* asks models one after another until one answers; *doubts* yields why an answer is doubtful."""
        self._candidates = candidates
        self._in_turn = in_turn
        self._doubts = doubts
        self._sample = sample
        self._latency = latency
        self._metrics = metrics
        self._clock = clock

    async def answer(self, ask: Ask) -> Answer:
        """Asks until nothing is doubtful about an answer; raises only where no model gave any.

        An answer that was cut off is doubtful like any other, but cannot be given.
        """
        said = await self._said(self._candidates, ask)
        passed: list[_Said] = []
        while said.doubt or isinstance(said.result, TruncatedAnswer):
            passed.append(said)
            following = await self._following(said, ask)
            if following is None:
                return self._after_all(passed, ask)
            said = following
        if not passed:
            return await self._compared(said.result, said.later, ask)
        self._count(passed, ask)
        return said.result

    async def ready(self) -> bool:
        """Tells whether any model is ready."""
        return await self._in_turn(self._candidates).ready()

    async def _said(self, candidates: Sequence[Candidate], ask: Ask) -> _Said:
        """Asks *candidates* in turn; raises where none of them said anything."""
        try:
            answer = await self._in_turn(candidates).answer(ask)
        except TruncatedAnswer as exc:
            if _is_read(ask):
                raise
            model = _cut_off(ask)
            # Its traceback leads back here: a cycle would keep the call's images until the collector runs.
            return _Said(model, exc.with_traceback(None), exc.reason, _after(model, candidates))
        later = _after(answer.model, candidates)
        doubt = "" if not later or _is_read(ask) else next(self._doubts(ask, answer), "")
        if doubt:
            _mark(ask, answer, doubt)
        return _Said(answer.model, answer, doubt, later)

    async def _following(self, said: _Said, ask: Ask) -> _Said | None:
        """Asks the models after *said*'s that can answer in time; None where none does."""
        later = [candidate for candidate in said.later if self._can_answer(candidate, ask)]
        if not later:
            return None
        try:
            return await self._said(later, self._in_time(ask))
        except GatewayError:
            if _is_read(ask):
                raise
            # It is on the call's record; what is there already is better.
            return None

    async def _compared(self, answer: Answer, later: Sequence[Candidate], ask: Ask) -> Answer:
        """Gives *answer*, unless this call is drawn, and the next model's answer differs too much from it."""
        sample = self._sample
        if sample is None or not later or ask.sink is not None or sample.chance() >= sample.share:
            return answer
        can_answer = [candidate for candidate in later if self._can_answer(candidate, ask)]
        if not can_answer:
            return answer
        try:
            other = await self._in_turn(can_answer).answer(self._in_time(ask))
        except GatewayError:
            return answer
        ratio = sample.agreement(ask, answer, other)
        disagrees = ratio < sample.least and next(self._doubts(ask, other), "") == ""
        given, spare = (other, answer) if disagrees else (answer, other)
        self._metrics.agreement(rpc=ask.query.rpc, model=given.model, other=spare.model, ratio=ratio)
        if disagrees:
            _mark(ask, answer, DISAGREEMENT)
            self._metrics.escalated(rpc=ask.query.rpc, model=answer.model, reason=DISAGREEMENT)
        return given

    def _after_all(self, passed: Sequence[_Said], ask: Ask) -> Answer:
        """Gives the last of the doubtful answers, or raises where there are but those that were cut off."""
        for said in reversed(passed):
            if not isinstance(said.result, TruncatedAnswer):
                self._count([each for each in passed if each is not said], ask)
                ask.trace.route_reason += f",doubtful:{said.doubt}"
                return said.result
            failure = said.result
        raise failure

    def _can_answer(self, candidate: Candidate, ask: Ask) -> bool:
        """Tells whether *candidate* would be asked and be in time; else passes it by: another answer is there."""
        left = self._in_time(ask).deadline - self._clock()
        expected = self._latency.expected_s(ask.query.rpc, candidate.name) or 0.0
        if left > expected and candidate.may_answer:
            return True
        reason = DeadlineTooShort.reason if candidate.may_answer else BackendUnavailable.reason
        pass_by(ask, candidate.name, reason, self._metrics)
        return False

    def _in_time(self, ask: Ask) -> Ask:
        return replace(ask, deadline=ask.deadline - _RESERVE_S)

    def _count(self, passed: Sequence[_Said], ask: Ask) -> None:
        for said in passed:
            self._metrics.escalated(rpc=ask.query.rpc, model=said.model, reason=said.doubt)


def _is_read(ask: Ask) -> bool:
    """Tells whether the caller has begun to read an answer, so that nobody else can give one."""
    return ask.sink is not None and ask.sink.committed


def _after(model: str, candidates: Sequence[Candidate]) -> Sequence[Candidate]:
    names = [candidate.name for candidate in candidates]
    return candidates[names.index(model) + 1 :] if model in names else ()


def _cut_off(ask: Ask) -> str:
    """Names the model whose answer was cut off last."""
    cut = (attempt.model for attempt in reversed(ask.trace.attempts) if attempt.reason == TruncatedAnswer.reason)
    return next(cut, "")


def _mark(ask: Ask, answer: Answer, doubt: str) -> None:
    """Puts on the call's record what is doubtful about *answer*, whose attempt is there."""
    tracing.event("doubted", model=answer.model, reason=doubt)
    attempts = ask.trace.attempts
    for index in reversed(range(len(attempts))):
        if attempts[index].model == answer.model and attempts[index].outcome is Outcome.OK:
            attempts[index] = replace(attempts[index], reason=f"{_MARK}{doubt}")
            return
