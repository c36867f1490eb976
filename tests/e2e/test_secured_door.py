"""A gateway with TLS, certificates, tokens and keys, as grpcurl, the Python client and the command line meet it."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest

from tests.fixtures.pki import AUDIENCE, ISSUER, SPIFFE, Authority, Issuer
from tests.fixtures.settings_file import caption, principal, script
from visiongateway import AccessDenied, AsyncVisionClient, Unavailable

SERVICE = "visiongateway.v1.VisionService"
PHOTO = Path(__file__).parents[1] / "photos" / "coffee.png"
KEY = "a key of bo's"


@pytest.fixture(scope="module")
def authority():
    return Authority()


@pytest.fixture(scope="module")
def stranger():
    return Authority()


@pytest.fixture(scope="module")
def issuer():
    return Issuer()


@dataclass
class Files:
    """Files of the gateway's and of its callers', by name."""

    folder: Path

    def put(self, name, text):
        path = self.folder / name
        path.write_bytes(text)
        return str(path)

    def leaf(self, name, leaf):
        """Options of grpcurl and of our own command line that show the certificate *leaf*."""
        return self.put(f"{name}.crt", leaf.cert), self.put(f"{name}.key", leaf.key)


@pytest.fixture
def files(tmp_path, authority):
    made = Files(tmp_path)
    made.put("ca.pem", authority.pem)
    made.leaf("server", authority.server())
    return made


@pytest.fixture
def tables(files, issuer):
    """Everything at once: certificates are required, and tokens and keys go along."""
    folder = files.folder
    return {
        "models": {"one": script(answer="A cup of coffee.")},
        "server": {
            "tls": {
                "cert": f"{folder}/server.crt",
                "key": f"{folder}/server.key",
                "client_ca": f"{folder}/ca.pem",
                "client_auth": "require",
                "http": False,
            }
        },
        "jwt": {"issuer": ISSUER, "audience": [AUDIENCE], "jwks_file": files.put("jwks.json", issuer.jwks.encode())},
        "principals": {
            "ingest": {"san": [SPIFFE], "rpcs": ["Caption"]},
            "anna": {"subjects": ["anna@example.org"]},
            "bo": principal(KEY),
        },
    }


async def run(*command, **environment):
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={"PYTHONPATH": ":".join(sys.path), "COLUMNS": "200", **environment},
    )
    said, _ = await asyncio.wait_for(process.communicate(), 60)
    return process.returncode, said.decode()


@pytest.fixture
def grpcurl(files):
    """Calls `ListModels` with grpcurl, which shows *leaf* and sends *bearer*."""
    program = shutil.which("grpcurl", path=f"{Path(sys.executable).parent}") or shutil.which("grpcurl")
    if program is None:
        pytest.skip("grpcurl is not installed")

    async def call(running, leaf=None, bearer=None, *, ca="ca.pem", rpc=f"{SERVICE}/ListModels"):
        shown = []
        if leaf:
            cert, key = files.leaf(f"caller-{id(leaf)}", leaf)
            shown = ["-cert", cert, "-key", key]
        if bearer:
            shown += ["-H", f"authorization: Bearer {bearer}"]
        options = ["-cacert", f"{files.folder}/{ca}", "-connect-timeout", "3", *shown]
        port = running.gateway.addresses.grpc.rpartition(":")[2]
        return await run(program, *options, f"localhost:{port}", *([rpc] if rpc else ["list"]))

    return call


async def test_grpcurl_is_let_in_by_token_key_and_certificate(serve_file, tables, grpcurl, authority, issuer):
    running = await serve_file(**tables)
    mesh = authority.caller("mesh.example.org")

    for bearer in (issuer.token("RS256"), KEY):
        code, said = await grpcurl(running, mesh, bearer)
        assert (code, json.loads(said)["models"][0]["name"]) == (0, "one")
    code, said = await grpcurl(running, authority.caller(SPIFFE))

    assert "PermissionDenied" in said
    assert "you may not call ListModels, only: Caption" in said


async def test_grpcurl_is_told_what_is_wrong_with_its_credential(serve_file, tables, grpcurl, authority, issuer):
    running = await serve_file(**tables)
    mesh = authority.caller("mesh.example.org")
    good = issuer.token()
    wrong = {
        "token_expired": issuer.token(exp=time.time() - 60),
        "token_audience": issuer.token(aud="another"),
        "token_signature": Issuer().token(),
        "token_algorithm": f"eyJhbGciOiJub25lIn0.{good.split('.')[1]}.",
        "unknown_key": "guessed",
        "unknown_certificate": None,
    }

    for cause, bearer in wrong.items():
        code, said = await grpcurl(running, mesh, bearer)
        assert code != 0
        assert "Unauthenticated" in said
        assert f'"cause":"{cause}"' in said

    metrics = await running.metrics()
    assert {metrics[f'vision_gateway_auth_refused_total{{cause="{cause}"}}'] for cause in wrong} == {"1.0"}
    assert metrics['vision_gateway_requests_total{code="UNAUTHENTICATED",rpc="ListModels"}'] == f"{len(wrong)}.0"


async def test_grpcurl_does_not_connect_with_a_wrong_certificate(
    serve_file, tables, grpcurl, files, authority, stranger
):
    running = await serve_file(**tables)
    files.put("stranger.pem", stranger.pem)

    # At once, since each goes on trying for a while.
    refused = await asyncio.gather(
        grpcurl(running),
        grpcurl(running, stranger.caller(SPIFFE)),
        grpcurl(running, authority.caller(SPIFFE, valid_days=-1)),
        grpcurl(running, authority.caller(SPIFFE), ca="stranger.pem"),
    )

    assert all(code for code, _ in refused)
    assert not [name for name in await running.metrics() if name.startswith("vision_gateway_requests_total")]


async def test_a_key_that_is_revoked_lets_nobody_in_any_more(serve_file, tables, grpcurl, authority):
    running = await serve_file(**tables)
    mesh = authority.caller("mesh.example.org")
    before, _ = await grpcurl(running, mesh, KEY)

    line = await running.reload(**{**tables, "principals": {**tables["principals"], "bo": principal("a new one")}})
    after, said = await grpcurl(running, mesh, KEY)

    assert line["changed"] == {"principals.bo.key_sha256": "changed"}
    assert (before, after != 0) == (0, True)
    assert '"cause":"unknown_key"' in said


async def test_reflection_can_be_switched_off(serve_file, tables, grpcurl, authority):
    on = await serve_file(**tables)
    _, listed = await grpcurl(on, authority.caller("x.example.org"), rpc=None)
    off = await serve_file(**{**tables, "server": {**tables["server"], "reflection": False}})
    code, said = await grpcurl(off, authority.caller("x.example.org"), rpc=None)

    assert SERVICE in listed
    assert code != 0
    assert "does not support the reflection API" in said


async def test_the_python_client_comes_in_by_certificate_and_by_a_token_that_it_renews(
    serve_file, tables, authority, stranger, issuer
):
    running = await serve_file(**tables)
    address = f"localhost:{running.gateway.addresses.grpc.rpartition(':')[2]}"
    tokens = [issuer.token(exp=time.time() - 60), issuer.token()]

    def client(leaf, **given):
        return AsyncVisionClient(
            address, credentials=grpc.ssl_channel_credentials(authority.pem, leaf.key, leaf.cert), **given
        )

    image = caption().image.data
    async with client(authority.caller(SPIFFE)) as ingest:
        assert (await ingest.caption(image)).text == "A cup of coffee."
    async with client(authority.caller("mesh.example.org"), token=lambda: tokens.pop(0)) as anna:
        with pytest.raises(AccessDenied) as caught:
            await anna.caption(image)
        assert caught.value.metadata["cause"] == "token_expired"
        assert (await anna.caption(image)).text == "A cup of coffee."
    async with client(stranger.caller(SPIFFE)) as nobody:
        with pytest.raises(Unavailable):
            await nobody.caption(image)


async def test_the_command_line_comes_in_by_certificate_and_by_token(serve_file, tables, files, authority, issuer):
    running = await serve_file(**tables)
    port = running.gateway.addresses.grpc.rpartition(":")[2]
    command = [sys.executable, "-m", "gateway.cli", "caption", str(PHOTO), "--address", f"localhost:{port}"]
    cert, key = files.leaf("mesh", authority.caller("mesh.example.org"))
    shown = ["--ca", f"{files.folder}/ca.pem", "--cert", cert, "--key", key]

    by_token = await run(*command, *shown, VISION_GATEWAY_TOKEN=issuer.token())
    expired = await run(*command, *shown, "--token", issuer.token(exp=time.time() - 60))
    half = await run(*command, *shown[:4])

    assert by_token[0] == 0
    assert "A cup of coffee." in by_token[1]
    assert expired[0] == 1
    assert "the token has expired" in expired[1]
    assert half[0] == 2
    assert "--cert and --key go together" in half[1]


async def test_the_command_line_lists_the_models_of_an_http_port_with_tls(serve_file, tables, files):
    tables["server"]["tls"]["http"] = True
    running = await serve_file(**tables)
    address = f"localhost:{running.gateway.addresses.http.rpartition(':')[2]}"
    command = [sys.executable, "-m", "gateway.cli", "models", "--http-address", address]

    trusted = await run(*command, "--ca", f"{files.folder}/ca.pem")
    untrusted = await run(*command, "--tls")

    assert trusted == (0, "one  ready\n")
    told = f"No gateway answers at https://{address}/readyz; give its --http-address, or its gRPC port as --address.\n"
    assert untrusted == (1, told)
