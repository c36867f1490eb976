"""TLS at the HTTP port of a whole gateway, and who reads the metrics there."""

from __future__ import annotations

import pytest

from tests.fixtures.settings_file import principal, script
from tests.fixtures.tls_gateway import get, put, serial_of, serial_seen


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1"], ids=["by name", "by address, without SNI"])
async def test_the_http_port_speaks_tls_and_sees_the_renewed_certificate(serve_file, files, authority, name):
    path, tls = files
    running = await serve_file(models={"one": script()}, server={"tls": {**tls, "http": True}})
    address, renewed = running.gateway.addresses.http, authority.server()
    before = await serial_seen(address, authority, name)

    put(path, renewed)
    running.source.asked.set()
    await running.told(1)

    assert before != await serial_seen(address, authority, name) == serial_of(renewed.cert)
    assert await get(address, "/healthz", authority, server_hostname=name) == (200, "ok\n")


async def test_the_metrics_are_read_by_those_who_may_and_health_by_everybody(serve_file, mutual, authority, tmp_path):
    principals = {"prometheus": {"san": ["prometheus.example.org"]}, "anna": principal("k"), "spare": principal("s")}
    running = await serve_file(
        models={"one": script()},
        principals=principals,
        server={"tls": {**mutual, "http": True}, "metrics_principals": ["prometheus", "spare"]},
    )
    address = running.gateway.addresses.http

    async def status(path="/metrics", leaf=None, **headers):
        return (await get(address, path, authority, leaf, tmp_path, **headers))[0]

    assert await status(leaf=authority.caller("prometheus.example.org")) == 200
    assert await status(authorization="Bearer s") == 200
    assert await status() == 401
    assert await status(leaf=authority.caller("other.example.org")) == 401
    assert await status(authorization="Bearer wrong") == 401
    assert await status(authorization="Bearer k") == 403
    assert [await status(path) for path in ("/healthz", "/readyz")] == [200, 200]
