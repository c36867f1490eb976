"""Replays calls through the policies of a gateway, in virtual time."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

import structlog
from prometheus_client import CollectorRegistry

from gateway import tasks
from gateway.compose.cache import open_cache
from gateway.compose.model import Shared, open_model
from gateway.compose.plan import plans
from gateway.compose.routing import open_routing
from gateway.domain import Ask, CacheOutcome, Options, Priority, SourceImage, Urgency
from gateway.errors import GatewayError
from gateway.latency import Latency
from gateway.metrics import Metrics
from gateway.simulation import answers
from gateway.simulation.backend import UNKNOWN_SIZE, Simulated, Unprepared
from gateway.simulation.loop import VirtualTimeLoop
from gateway.simulation.trace import DEFAULT_SIDE_PX

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from prometheus_client.samples import Sample

    from gateway.domain import Attempt
    from gateway.policies import Model
    from gateway.settings import CacheSettings, Settings
    from gateway.simulation.backend import Script
    from gateway.simulation.behaviour import Behaviour
    from gateway.simulation.trace import Call
    from gateway.tasks import AnyTask

_NANO = 10**9
_AFTERWARDS_S = 3600.0


@dataclass(frozen=True, slots=True)
class End:
    """How one call ended: with the answer of *model*, which is *right* or not, or for *reason* without one.

    *seconds* are what it took from its arrival; *attempts* are on its record. *cached* says that the answer was there
    already, or under way for another call.
    """

    model: str
    reason: str
    right: bool
    seconds: float
    attempts: tuple[Attempt, ...]
    cached: bool

    @property
    def cost_nano_usd(self) -> int:
        """What all of its attempts cost."""
        return sum(attempt.cost_nano_usd for attempt in self.attempts)


@dataclass(frozen=True, slots=True)
class Replayed:
    """How every call ended, in their order, and how often answers were escalated, by what was doubtful about them.

    *aside_nano_usd* is the cost of what no call waited for: shadows, and models that a faster one was preferred to.
    """

    ends: tuple[End, ...]
    escalations: Mapping[str, int]
    aside_nano_usd: int


@dataclass(frozen=True, slots=True)
class Simulation:
    """Models that behave as *behaviours* say, by name, behind the policies of *settings*; *seed* draws all chance.

    Models that err *alike* are wrong at the same calls, as far as their shares of right answers let them; else
    independently of each other.
    """

    settings: Settings
    behaviours: Mapping[str, Behaviour]
    seed: int
    alike: bool = False

    def replay(self, calls: Mapping[str, Call], script: Script, *, route: str | None = None) -> Replayed:
        """Makes each of *calls*, which are by id and in the order of time, on *route* where that is given.

        Raises `SettingsError` with every problem of the models. Starts an event loop, and so cannot run on one.
        """
        with _silence(), asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
            return runner.run(self._replay(calls, script, route))

    async def _replay(self, calls: Mapping[str, Call], script: Script, route: str | None) -> Replayed:
        clock = asyncio.get_running_loop().time
        registry = CollectorRegistry()
        known, preparer, metrics = tasks.load(), Unprepared(), Metrics(registry)
        async with AsyncExitStack() as stack:
            shared = Shared(
                tasks=known,
                preparer=preparer,
                latency=Latency(),
                metrics=metrics,
                clock=clock,
                random=Random(self.seed),  # noqa: S311  it keeps nothing secret
                cache=open_cache(
                    _in_memory(self.settings.cache), stack, preparer=preparer, tasks=known, metrics=metrics, clock=clock
                ),
            )
            candidates = {}
            for name, plan in plans(self.settings).items():
                backend = Simulated(name, plan.profile, self.behaviours[name], script, seed=self.seed)
                candidates[name] = await open_model(plan, shared, stack, backend=backend)
            model, _ = open_routing(self.settings, candidates, shared, stack)
            made: list[asyncio.Task[End]] = []
            async with asyncio.TaskGroup() as group:
                for name, call in calls.items():
                    await asyncio.sleep(max(call.at_s - clock(), 0.0))
                    ask = _ask(name, call, shared.tasks[call.rpc], clock(), route)
                    made.append(group.create_task(_end(ask, model, script)))
            # What goes on in the background ends too.
            await asyncio.sleep(_AFTERWARDS_S)
        ends = tuple(task.result() for task in made)
        aside = _cost(registry) - sum(end.cost_nano_usd for end in ends)
        return Replayed(ends, _escalations(registry), aside)


def _in_memory(cache: CacheSettings) -> CacheSettings:
    """Gives the same cache apart from the one that the settings name, which has real answers in it."""
    return cache if cache.store == "off" else cache.model_copy(update={"store": "memory"})


def _ask(name: str, call: Call, task: AnyTask, now_s: float, route: str | None) -> Ask:
    known = call.width is not None and call.height is not None
    picture = call.image or name
    image = SourceImage(
        data=(b"=" if known else UNKNOWN_SIZE) + picture.encode(),
        media_type="image/jpeg",
        width_px=call.width or DEFAULT_SIDE_PX,
        height_px=call.height or DEFAULT_SIDE_PX,
    )
    options = Options(
        route=call.route if route is None else route,
        priority=Priority(call.priority) if call.priority else Priority.BALANCED,
        max_cost_nano_usd=call.max_cost_nano_usd,
        urgency=Urgency[call.urgency.upper()] if call.urgency else Urgency.INTERACTIVE,
        category=call.category,
    )
    return Ask(answers.query(task), (image,), options, deadline=now_s + call.deadline_s, request_id=name)


async def _end(ask: Ask, model: Model, script: Script) -> End:
    started = asyncio.get_running_loop().time()
    answered, reason, right = "", "", False
    try:
        answer = await model.answer(ask)
    except GatewayError as exc:
        reason = exc.reason
    else:
        answered = answer.model
        right = script.verdict(ask.request_id, answered).right
    seconds = asyncio.get_running_loop().time() - started
    cached = ask.trace.cache in {CacheOutcome.HIT, CacheOutcome.COALESCED}
    return End(answered, reason, right, seconds, tuple(ask.trace.attempts), cached)


@contextmanager
def _silence() -> Iterator[None]:
    """Keeps out of this process' log what happens to models that are not there."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("CRITICAL"))
    try:
        yield
    finally:
        structlog.configure(**before)


def _escalations(registry: CollectorRegistry) -> dict[str, int]:
    found: Counter[str] = Counter()
    for sample in _samples(registry, "vision_gateway_escalations"):
        found[sample.labels["reason"]] += round(sample.value)
    return dict(found)


def _cost(registry: CollectorRegistry) -> int:
    """Gives the cost of all attempts in nano-USD; floats hold sums of up to some 10,000 dollars exactly enough."""
    return sum(round(sample.value * _NANO) for sample in _samples(registry, "vision_gateway_cost_usd"))


def _samples(registry: CollectorRegistry, counter: str) -> Iterator[Sample]:
    for metric in registry.collect():
        if metric.name == counter:
            yield from (sample for sample in metric.samples if sample.name.endswith("_total"))
