from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest

from gateway.backends.triton import Options, connect
from gateway.errors import BackendUnavailable
from tests.fixtures.kserve import ScriptedTriton, start

OPENSSL = shutil.which("openssl")
pytestmark = [
    pytest.mark.skipif(OPENSSL is None, reason="openssl is not installed"),
    pytest.mark.usefixtures("unblocked_loop"),
]


@dataclass(frozen=True)
class Identity:
    """A certificate that signs itself, and its key."""

    cert: Path
    key: Path


@pytest.fixture(scope="module")
def identity(tmp_path_factory):
    def make(name):
        folder = tmp_path_factory.mktemp(name)
        made = Identity(folder / "cert.pem", folder / "key.pem")
        options = "-x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=127.0.0.1"
        names = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(made.key), "-out", str(made.cert)]
        subprocess.run([OPENSSL, "req", *options.split(), *names], check=True, capture_output=True)
        return made

    return make


@pytest.fixture(scope="module")
def server_identity(identity):
    return identity("server")


@pytest.fixture(scope="module")
def client_identity(identity):
    return identity("client")


@pytest.fixture
async def secured(server_identity, client_identity):
    """A server that asks its clients for a certificate."""
    triton = ScriptedTriton()
    credentials = grpc.ssl_server_credentials(
        [(server_identity.key.read_bytes(), server_identity.cert.read_bytes())],
        client_identity.cert.read_bytes(),
        require_client_auth=True,
    )
    server = await start(triton, credentials=credentials)
    yield triton
    await server.stop(None)


def options(address, **tls):
    return Options.model_validate({"address": address, "model": "gemma4", "tls": tls})


async def test_both_sides_know_each_other_by_certificate(secured, server_identity, client_identity, prompt, images):
    known = options(secured.address, ca=server_identity.cert, cert=client_identity.cert, key=client_identity.key)

    async with connect(known) as backend:
        assert (await backend.complete(prompt, images, timeout_s=10)).text == "a cat"


async def test_a_server_of_an_unknown_authority_is_sent_nothing(secured, client_identity, prompt, images):
    strange = options(secured.address, ca=client_identity.cert, cert=client_identity.cert, key=client_identity.key)

    async with connect(strange) as backend:
        with pytest.raises(BackendUnavailable):
            await backend.complete(prompt, images, timeout_s=10)

    assert secured.requests == []


async def test_a_gateway_without_its_certificate_is_turned_away(secured, server_identity, prompt, images):
    async with connect(options(secured.address, ca=server_identity.cert)) as backend:
        assert not await backend.ready()
        with pytest.raises(BackendUnavailable):
            await backend.complete(prompt, images, timeout_s=10)
