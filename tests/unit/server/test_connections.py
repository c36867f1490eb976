"""Connections are told by the address of who calls, for as long as one may last."""

from __future__ import annotations

import pytest

from gateway.server.connections import Connections


class Metrics:
    """Stands in for the metrics: keeps the ports."""

    def __init__(self):
        self.used = []

    def tls_connection_used(self, port):
        self.used.append(port)


class Context:
    """Stands in for the context of a call from *peer*."""

    def __init__(self, peer):
        self._peer = peer

    def peer(self):
        return self._peer


class Noted:
    """Connections that last 100 s at most, three of which are known at most; *now* is set."""

    def __init__(self):
        self.now = 0.0
        self.metrics = Metrics()
        self.connections = Connections(self.metrics, longest_s=100.0, clock=lambda: self.now, most=3)

    def calls(self, *peers, at=0.0):
        """Has one call after another come from *peers*, and gives how many connections were counted so far."""
        self.now = at
        for peer in peers:
            self.connections.called(Context(peer))
        return len(self.metrics.used)


@pytest.fixture
def noted():
    return Noted()


def test_each_peer_is_one_connection_however_often_it_calls(noted):
    assert noted.calls("a", "b", "a", "b", "a") == 2
    assert set(noted.metrics.used) == {"grpc"}


def test_a_peer_that_calls_after_its_connection_must_have_ended_is_another_one(noted):
    noted.calls("a")

    assert noted.calls("a", at=99.9) == 1
    assert noted.calls("a", at=100.0) == 2
    assert noted.calls("a", at=199.9) == 2


def test_peers_whose_connections_have_ended_are_forgotten(noted):
    noted.calls("a", "b")

    noted.calls("c", at=150.0)

    assert list(noted.connections._since) == ["c"]


def test_of_too_many_peers_the_oldest_are_forgotten(noted):
    noted.calls("a", "b", "c", "d")

    assert list(noted.connections._since) == ["b", "c", "d"]
