from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from random import Random

import pytest
from prometheus_client import CollectorRegistry

from gateway.domain import Answer, Ask, Attempt, Completion, ImagePlan, Options, Outcome, Query, Quote, SourceImage
from gateway.errors import GatewayError
from gateway.latency import Latency
from gateway.metrics import Metrics
from gateway.policies import Candidate
from gateway.policies.breaker import Breaker, State
from gateway.policies.fallback import Fallback
from gateway.policies.route import Route, Rule
from gateway.usage import Usage


class FakeClock:
    """A clock that moves only when told."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@dataclass
class ScriptedModel:
    """Stands in for a model: each call takes the next step, an answer's usage or an exception."""

    name: str
    clock: FakeClock
    steps: list = field(default_factory=list)
    takes_s: float = 0.0
    asked: list[Ask] = field(default_factory=list)
    is_ready: bool = True

    async def answer(self, ask):
        self.asked.append(ask)
        self.clock.now += self.takes_s
        ask.trace.upstream_s += self.takes_s
        step = self.steps.pop(0) if self.steps else Usage(input_text=10, output=5)
        if isinstance(step, BaseException):
            raise step
        return Answer("response", Completion("text", step), self.name, "fake", "1", ImagePlan(1, 1, 0), 0)

    async def ready(self):
        return self.is_ready


class HeldModel:
    """Stands in for a model that answers or fails when told, and records every attempt as an account does."""

    def __init__(self, inner):
        self.inner = inner
        self.go = asyncio.Event()
        self.asked = asyncio.Event()
        self.cost = 0
        self.seconds = 0.0

    async def answer(self, ask):
        self.asked.set()
        reason = "CANCELLED"
        try:
            await self.go.wait()
            reason = "FAILED"
            answer = await self.inner.answer(ask)
            reason = ""
        finally:
            outcome = Outcome.FAILED if reason else Outcome.OK
            ask.trace.attempts.append(Attempt(self.inner.name, outcome, reason, self.seconds, self.cost))
        return answer

    async def ready(self):
        return True


@dataclass(frozen=True)
class AnyQuery(Query):
    rpc = "Caption"


@pytest.fixture
def clock():
    return FakeClock()


class LeastRandom(Random):
    """Draws the least of every range."""

    def uniform(self, a, b):
        return a


@pytest.fixture
def random():
    return LeastRandom(0)


@pytest.fixture
def registry():
    return CollectorRegistry()


@pytest.fixture
def metrics(registry):
    return Metrics(registry)


@pytest.fixture
def latency():
    return Latency()


@pytest.fixture
def takes(latency):
    """Teaches how long a model takes."""

    def learn(name, seconds):
        for _ in range(5):
            latency.observe("Caption", name, seconds)

    return learn


@pytest.fixture
def sample(registry):
    """Gives the value of one sample, None where there is none."""

    def value(name, **labels):
        return registry.get_sample_value(name, labels)

    return value


@pytest.fixture
def model(clock):
    def make(name="m", *steps, **facts):
        return ScriptedModel(name, clock, list(steps), **facts)

    return make


@pytest.fixture
def candidate(model):
    def make(name, *steps, local=True, quality=None, cost=0, is_open=False, **facts):
        inner = model(name, *steps, **facts)
        quote = Quote(0, 0, 0, cost, cost)
        known = {} if quality is None else {"overall": quality}
        return Candidate(name, inner, local, known, lambda _: quote, lambda asked, _: asked, lambda: is_open)

    return make


@pytest.fixture
def ask(clock):
    def make(*, seconds=10.0, **options):
        return Ask(AnyQuery(), (SourceImage(b"x", "image/png", 1, 1),), Options(**options), clock() + seconds, "id")

    return make


class Chance:
    """Stands in for chance: draws of a share give *number*, a choice among some is the last that can be."""

    def __init__(self):
        self.number = 1.0
        self.drawn = []

    def random(self):
        return self.number

    def choice(self, among):
        return among[-1]

    def choices(self, among, weights):
        self.drawn.append(dict(zip([each.name for each in among], weights, strict=True)))
        return [[each for each, weight in zip(among, weights, strict=True) if weight][-1]]


@pytest.fixture
def chance():
    return Chance()


@pytest.fixture
def make_route(latency, metrics, clock, chance):
    """Makes a route over *candidates* by rules of the given names, whose models are then tried in turn."""

    def make(candidates, followed=None, **rules):
        def try_in_turn(name, chosen):
            if followed is not None:
                followed.append((name, [each.name for each in chosen]))
            return Fallback(chosen, latency=latency, metrics=metrics, clock=clock)

        models = {each.name: each for each in candidates}
        rules = {"default": Rule(tuple(models)), **rules}
        return Route(models, rules, try_in_turn=try_in_turn, latency=latency, metrics=metrics, random=chance)

    return make


@pytest.fixture
def breaker(latency, metrics, clock):
    def make(inner, **rule):
        rule = {"failures": 5, "share": 0.5, "open_s": 1.0, "longest_open_s": 30.0, **rule}
        return Breaker(inner, name="m", **rule, latency=latency, metrics=metrics, clock=clock)

    return make


@pytest.fixture
def call(ask):
    """Asks once and gives the failure, None for an answer."""

    async def make(breaker, *, last_resort=False, asked=None):
        try:
            await breaker.answer(replace(asked or ask(), last_resort=last_resort))
        except GatewayError as exc:
            return exc
        return None

    return make


@pytest.fixture
def state(sample):
    return lambda: State(sample("vision_gateway_breaker_state", model="m"))


@pytest.fixture
def held(candidate):
    """A candidate that is held, and its model."""

    def make(name, *steps, **facts):
        made = candidate(name, *steps, **facts)
        model = HeldModel(made.model)
        return replace(made, model=model), model

    return make


@pytest.fixture
async def no_task_is_left():
    """Fails a test that leaves a task behind."""
    yield
    assert asyncio.all_tasks() - {asyncio.current_task()} == set()
