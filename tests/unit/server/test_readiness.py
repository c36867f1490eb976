from __future__ import annotations

import asyncio

import pytest
from prometheus_client import CollectorRegistry

from gateway.metrics import Metrics
from gateway.server.readiness import Readiness


class Fixed:
    def __init__(self, *, ready):
        self.is_ready = ready

    async def ready(self):
        return self.is_ready


class Broken:
    async def ready(self):
        raise RuntimeError


class Hung:
    async def ready(self):
        await asyncio.Event().wait()


def _readiness(registry=None, **models):
    return Readiness(models, Metrics(registry or CollectorRegistry()), longest_look_s=0.05)


async def test_no_model_is_ready_before_it_was_looked_at():
    readiness = _readiness(one=Fixed(ready=True))
    assert (readiness.serving, dict(readiness.models)) == (False, {"one": False})


@pytest.mark.parametrize("broken", [Broken(), Hung()], ids=["fails", "hangs"])
async def test_a_model_that_cannot_be_looked_at_is_not_ready_and_harms_no_other(broken):
    readiness = _readiness(broken=broken, one=Fixed(ready=True))
    await readiness.look()
    assert dict(readiness.models) == {"broken": False, "one": True}


async def test_a_hung_model_does_not_delay_what_is_known_of_the_others():
    readiness = Readiness({"hung": Hung(), "one": Fixed(ready=True)}, Metrics(CollectorRegistry()), longest_look_s=600)
    looking = asyncio.create_task(readiness.look())
    await asyncio.wait_for(readiness.next_change.wait(), 5)
    assert readiness.serving
    looking.cancel()


async def test_each_change_is_announced_once():
    model = Fixed(ready=True)
    readiness = _readiness(one=model)
    first = readiness.next_change
    await readiness.look()
    second = readiness.next_change
    await readiness.look()
    assert (first.is_set(), second.is_set()) == (True, False)


async def test_the_metrics_say_which_model_is_ready():
    registry = CollectorRegistry()
    await _readiness(registry, up=Fixed(ready=True), down=Fixed(ready=False)).look()
    ready = {name: registry.get_sample_value("vision_gateway_model_ready", {"model": name}) for name in ("up", "down")}
    assert ready == {"up": 1, "down": 0}


async def test_the_watch_looks_again_and_again():
    model = Fixed(ready=False)
    readiness = _readiness(one=model)
    watching = asyncio.create_task(readiness.watch(lambda: 0.001))
    change = readiness.next_change
    model.is_ready = True
    await asyncio.wait_for(change.wait(), 5)
    assert readiness.serving
    watching.cancel()


async def test_only_models_that_are_not_watched_are_asked_before_a_change():
    kept, new = Fixed(ready=True), Fixed(ready=True)
    readiness = _readiness(kept=kept, replaced=Fixed(ready=True))

    assert await readiness.ask({"kept": kept, "replaced": Broken(), "new": new}) == {"replaced": False, "new": True}


async def test_after_a_change_the_models_are_those_and_as_ready_as_was_told():
    kept = Fixed(ready=True)
    readiness = _readiness(kept=kept, gone=Fixed(ready=True), replaced=Fixed(ready=True))
    await readiness.look()
    change = readiness.next_change

    readiness.change(
        {"kept": kept, "replaced": Fixed(ready=False), "new": Fixed(ready=True)}, {"replaced": False, "new": True}
    )

    assert dict(readiness.models) == {"kept": True, "replaced": False, "new": True}
    assert change.is_set()


async def test_what_a_look_finds_of_a_model_that_was_replaced_meanwhile_does_not_count():
    class Late:
        def __init__(self):
            self.asked, self.told = asyncio.Event(), asyncio.Event()

        async def ready(self):
            self.asked.set()
            await self.told.wait()
            return False

    late = Late()
    readiness = Readiness({"one": late}, Metrics(CollectorRegistry()), longest_look_s=600)
    looking = asyncio.create_task(readiness.look())
    await late.asked.wait()

    readiness.change({"one": Fixed(ready=True)}, {"one": True})
    late.told.set()
    await looking

    assert dict(readiness.models) == {"one": True}
