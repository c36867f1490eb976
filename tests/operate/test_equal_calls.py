"""Equal calls at several gateways, each a process of its own, one of which is killed while it asks."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack

import grpc
import pytest

from tests.fixtures.settings_file import caption, script
from tests.fixtures.workers import until
from tests.load.gateway_process import serving
from visiongateway.v1 import call_pb2, vision_service_pb2_grpc

MISS, COALESCED, HIT = (
    call_pb2.CACHE_OUTCOME_MISS,
    call_pb2.CACHE_OUTCOME_COALESCED,
    call_pb2.CACHE_OUTCOME_HIT,
)
CAPTION = caption()
LONG_S = 120


@pytest.fixture
def start_replica(start_redis, tmp_path):
    """Starts gateways that share a Redis, whose models take so long; they end with the test."""
    tables = {"cache": {"store": start_redis()[0]}, "images": {"workers": 1}, "ledger": {"url": "off"}}
    with ExitStack() as stack:

        def start(name, delay_s):
            return stack.enter_context(serving(tmp_path / name, models={"slow": script(delay_s=delay_s)}, **tables))

        yield start


def futures(gateway, stack, count):
    """Begins so many equal calls."""
    channel = stack.enter_context(grpc.insecure_channel(gateway.address))
    stub = vision_service_pb2_grpc.VisionServiceStub(channel)
    return [stub.Caption.future(CAPTION, timeout=LONG_S) for _ in range(count)]


def in_flight(gateway, scope):
    return gateway.samples("vision_gateway_inflight", "scope").get((scope,), 0)


def asked(gateway):
    return sum(gateway.samples("vision_gateway_attempts_total", "outcome").values())


def outcomes(*gateways):
    found = [gateway.samples("vision_gateway_cache_total", "outcome") for gateway in gateways]
    return sum(map(Counter, found), Counter())


def test_when_the_one_that_asks_is_killed_one_other_asks_after_its_lease(start_replica):
    # The first one would never answer.
    killed, *others = [start_replica(name, delay_s) for name, delay_s in (("a", LONG_S), ("b", 1), ("c", 1))]
    with ExitStack() as stack:
        lost = futures(killed, stack, 1)
        until(lambda: in_flight(killed, "slow") == 1)
        calls = [call for gateway in others for call in futures(gateway, stack, 20)]
        until(lambda: [in_flight(gateway, "server") for gateway in others] == [20, 20])
        waited = [asked(gateway) for gateway in others]

        killed.process.kill()
        answers = [call.result() for call in calls]

        assert lost[0].code() is grpc.StatusCode.UNAVAILABLE
    told = Counter(answer.info.cache for answer in answers)
    assert {answer.text for answer in answers} == {"A scripted answer."}
    assert (sum(waited), sum(map(asked, others))) == (0, 1)
    assert (told[MISS], told[COALESCED] + told[HIT]) == (1, 39)
    assert sum(outcomes(*others).values()) == 40
    assert outcomes(*others)["miss",] == 1


def test_equal_calls_at_several_workers_of_one_machine_are_one_call(serve_workers, tmp_path):
    store = {"store": f"sqlite:///{tmp_path}/cache.db"}
    workers = serve_workers(3, models={"slow": script(delay_s=2)}, cache=store)
    with ExitStack() as stack:
        # The kernel gives each connection to a worker.
        stubs = [workers.stub(stack) for _ in range(24)]
        answers = [call.result() for call in [stub.Caption.future(CAPTION, timeout=LONG_S) for stub in stubs]]

    told = Counter(answer.info.cache for answer in answers)
    assert (told[MISS], told[COALESCED] + told[HIT]) == (1, 23)
    assert asked(workers.gateway) == 1
