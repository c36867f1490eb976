"""Tokens of an identity provider before a whole gateway: each wrong one is refused for what is wrong, and counted."""

from __future__ import annotations

import time

import grpc
import pytest

from tests.fixtures.pki import AUDIENCE, ISSUER, Issuer
from tests.fixtures.served_gateway import failure_of
from tests.fixtures.settings_file import caption, principal, script


@pytest.fixture(scope="module")
def issuer():
    return Issuer()


@pytest.fixture(scope="module")
def other():
    return Issuer()


@pytest.fixture
def tables(tmp_path, issuer):
    path = tmp_path / "jwks.json"
    path.write_text(issuer.jwks)
    return {
        "models": {"one": script()},
        "jwt": {"issuer": ISSUER, "audience": [AUDIENCE], "jwks_file": str(path)},
        "principals": {"anna": {"subjects": ["anna@example.org"]}, "bo": principal("k"), "anonymous": {}},
    }


def bearer(token):
    return [("authorization", f"Bearer {token}")]


async def refused(running, token):
    failure = await failure_of(running.stub.Caption(caption(), timeout=10, metadata=bearer(token)))
    assert (failure.code, failure.reason) == (grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED")
    # Nothing of the token is told, not even to whoever sent it.
    assert all(part not in failure.message for part in token.split(".") if part)
    return failure.info.metadata["cause"]


async def test_a_token_says_who_calls_and_keys_go_on(serve_file, tables, issuer):
    running = await serve_file(**tables)

    for credential in (issuer.token("RS256"), issuer.token("ES256"), issuer.token("EdDSA"), "k"):
        await running.stub.Caption(caption(), timeout=10, metadata=bearer(credential))
    await running.stub.Caption(caption(), timeout=10)

    principals = [line.split('"principal":"')[1].split('"')[0] for line in calls(running)]
    assert principals == ["anna", "anna", "anna", "bo", "anonymous"]


def calls(running):
    return [line for line in running.log.getvalue().splitlines() if '"event":"call"' in line]


async def test_each_wrong_token_is_refused_for_what_is_wrong_and_counted(serve_file, tables, issuer, other):
    running = await serve_file(**tables)
    good = issuer.token()
    wrong = {
        "token_expired": issuer.token(exp=time.time() - 60),
        "token_not_yet_valid": issuer.token(nbf=time.time() + 60),
        "token_audience": issuer.token(aud="another-service"),
        "token_issuer": issuer.token(iss="https://evil.example"),
        "token_signature": other.token(),
        "token_key": issuer.token(kid="of-nobody"),
        # The header says {"alg": "none"}.
        "token_algorithm": f"eyJhbGciOiJub25lIn0.{good.split('.')[1]}.",
        "token_claim": issuer.token(sub=None),
        "token_malformed": "xq7.xq8.xq9",
        "unknown_subject": issuer.token(sub="eve@example.org"),
        "unknown_key": "no-token",
    }

    causes = [await refused(running, token) for token in wrong.values()]

    assert causes == [*wrong]
    metrics = await running.metrics()
    counted = {name: value for name, value in metrics.items() if name.startswith("vision_gateway_auth_refused_total")}
    assert counted == {f'vision_gateway_auth_refused_total{{cause="{cause}"}}': "1.0" for cause in wrong}
    assert [line.split('"cause":"')[1].split('"')[0] for line in calls(running)] == [*wrong]
    assert not [token for token in wrong.values() if token in running.log.getvalue()]


async def test_subjects_nobody_knows_make_no_series(serve_file, tables, issuer):
    running = await serve_file(**tables)
    await refused(running, issuer.token(sub="eve"))
    before = {*await running.metrics()}

    for eve in range(20):
        await refused(running, issuer.token(sub=f"eve-{eve}"))

    assert {*await running.metrics()} == before


async def test_keys_are_rotated_while_the_gateway_serves(serve_file, tables, tmp_path, issuer, other):
    running = await serve_file(**{**tables, "server": {"reload": "auto"}})
    old, new = issuer.token(), other.token()
    await running.stub.Caption(caption(), timeout=10, metadata=bearer(old))
    assert await refused(running, new) == "token_signature"

    (tmp_path / "new").write_text(other.jwks)
    (tmp_path / "new").replace(tmp_path / "jwks.json")
    await running.told(1)

    assert running.lines()[-1]["trigger"] == "file"
    await running.stub.Caption(caption(), timeout=10, metadata=bearer(new))
    # Verified before, which counts for nothing any more.
    assert await refused(running, old) == "token_signature"


async def test_a_set_of_keys_that_is_broken_is_not_taken_on(serve_file, tables, tmp_path, issuer):
    running = await serve_file(**tables)

    (tmp_path / "jwks.json").write_text('{"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}')
    line = await running.reload()

    assert line["outcome"] == "refused"
    assert "has a key that is secret" in line["problems"][0]
    assert "c2VjcmV0" not in running.log.getvalue()
    await running.stub.Caption(caption(), timeout=10, metadata=bearer(issuer.token()))


async def test_a_subject_that_is_taken_from_its_principal_is_refused_at_once(serve_file, tables, issuer):
    running = await serve_file(**tables)
    token = issuer.token()
    await running.stub.Caption(caption(), timeout=10, metadata=bearer(token))

    await running.reload(**{**tables, "principals": {"anna": {"subjects": ["anna@example.com"]}}})

    assert await refused(running, token) == "unknown_subject"
