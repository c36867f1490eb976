"""Connects to a model and stacks its policies."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import TYPE_CHECKING

from gateway.backends import open_backend
from gateway.concurrency import Fixed, Gradient
from gateway.model import ProfiledModel
from gateway.policies import Candidate
from gateway.policies.account import Account
from gateway.policies.appraise import Appraise
from gateway.policies.breaker import Breaker
from gateway.policies.budget import Budget
from gateway.policies.cap import Cap
from gateway.policies.limit import Limit
from gateway.policies.pace import Pace
from gateway.policies.retry import Retry, RetryBudget
from gateway.quoting import Quoter
from gateway.tasks import askable

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AsyncExitStack

    from gateway.backends import Backend
    from gateway.compose.cache import Caching
    from gateway.compose.plan import Plan
    from gateway.domain import Clock
    from gateway.imaging import HeldImages, Preparer
    from gateway.latency import Latency
    from gateway.ledger import Ledger
    from gateway.metrics import Metrics
    from gateway.policies import Model
    from gateway.policies.budget import Budgets
    from gateway.policies.pace import TokenRates
    from gateway.tasks import AnyTask


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """What all models of a gateway share; what is None, nobody keeps. *random* draws what policies leave to chance."""

    tasks: Mapping[str, AnyTask]
    preparer: Preparer
    latency: Latency
    metrics: Metrics
    clock: Clock
    random: Random = field(default_factory=Random)  # It parts load, and keeps nothing secret.
    retries: RetryBudget = field(default_factory=RetryBudget)
    ledger: Ledger | None = None
    budgets: Budgets | None = None
    token_rates: TokenRates | None = None
    cache: Caching | None = None
    held: HeldImages | None = None
    # Which models are told the trace that they are asked in: "local", "all" or "none".
    propagate: str = "none"

    @property
    def askable(self) -> Mapping[str, AnyTask]:
        """What a model may be asked, by RPC: each task, and several of them at once."""
        return askable(self.tasks)


async def open_endpoint(plan: Plan, metrics: Metrics, stack: AsyncExitStack) -> Backend:
    """Opens the backend of *plan* until *stack* ends; what its provider told of its quotas is forgotten then."""
    stack.callback(metrics.forget_upstream_quota, plan.name)
    told = partial(metrics.upstream_quota, plan.name)
    return await stack.enter_async_context(open_backend(plan.settings.kind, plan.options, on_quota=told))


async def open_model(plan: Plan, shared: Shared, stack: AsyncExitStack, *, backend: Backend | None = None) -> Candidate:
    """Opens the model of *plan* until *stack* ends, with its policies around it, the outermost last.

    *backend* stands in for the one that the plan names.
    """
    settings, metrics, clock = plan.settings, shared.metrics, shared.clock
    quoter = Quoter(plan.name, plan.profile, plan.price, shared.askable)
    if backend is None:
        backend = await open_endpoint(plan, metrics, stack)
    innermost = ProfiledModel(
        name=plan.name,
        kind=settings.kind,
        backend=backend,
        profile=plan.profile,
        tasks=shared.askable,
        preparer=shared.preparer,
        clock=clock,
        tells_trace=shared.propagate == "all" or (shared.propagate == "local" and plan.local),
    )
    model: Model = Account(
        innermost,
        name=plan.name,
        provider=settings.kind,
        price=plan.price,
        latency=shared.latency,
        metrics=metrics,
        clock=clock,
        provider_model=str(getattr(plan.options, "model", "")),
        ledger=shared.ledger,
    )
    if shared.budgets and not plan.price.free:
        model = Budget(model, name=plan.name, quote=quoter.quote, budgets=shared.budgets, metrics=metrics, clock=clock)
    if shared.token_rates and not plan.price.free:
        model = Pace(model, name=plan.name, quote=quoter.quote, rates=shared.token_rates, metrics=metrics)
    breaker = None
    model = Limit(
        model,
        name=plan.name,
        concurrency=Gradient(settings.max_inflight, clock) if settings.adaptive else Fixed(settings.max_inflight),
        max_queue=settings.longest_queue,
        latency=shared.latency,
        metrics=metrics,
        clock=clock,
        random=shared.random,
        is_paused=lambda: breaker is not None and breaker.is_paused,
    )
    if settings.breaker:
        rule = settings.breaker.model_dump()
        model = breaker = Breaker(model, name=plan.name, **rule, latency=shared.latency, metrics=metrics, clock=clock)
    if not plan.price.free:
        model = Appraise(model, name=plan.name, quote=quoter.quote, metrics=metrics)
    model = Cap(model, name=plan.name, fit=quoter.fit, metrics=metrics)
    if settings.retry:
        model = Retry(
            model,
            name=plan.name,
            **settings.retry.model_dump(),
            budget=shared.retries,
            latency=shared.latency,
            metrics=metrics,
            clock=clock,
            random=shared.random,
        )
    if shared.cache:
        model = shared.cache.before(model, plan, quoter.fit, shared.latency)
    return Candidate(
        plan.name,
        model,
        local=plan.local,
        quality=plan.quality,
        quote=quoter.quote,
        fit=quoter.fit,
        is_open=lambda: breaker is not None and breaker.is_open,
        tasks=None if settings.tasks is None else frozenset(settings.tasks),
        streams=backend.streams and not plan.profile.takes_query,
        is_ready=lambda: breaker is None or breaker.seen_ready,
    )
