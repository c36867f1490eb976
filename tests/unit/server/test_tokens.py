"""Tokens are held against the issuer's keys, and against nothing that they say themselves."""

from __future__ import annotations

import base64
import hmac
import json
import time

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from gateway.server.tokens import TokenRefused, Tokens, public_keys
from tests.fixtures.pki import AUDIENCE, ISSUER, Issuer, public_jwk

ALGORITHMS = ("RS256", "ES256", "EdDSA")


@pytest.fixture(scope="module")
def issuer():
    return Issuer()


@pytest.fixture(scope="module")
def other():
    return Issuer()


def tokens(text, *, algorithms=ALGORITHMS, now=time.time, **given):
    settings = {"issuer": ISSUER, "audience": [AUDIENCE, "vision-too"], "claim": "sub", "leeway_s": 10, **given}
    return Tokens(public_keys(text.encode(), algorithms), now=now, **settings)


def unsigned(claims, **header):
    parts = ({"typ": "JWT", "alg": "none", **header}, claims)
    return ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts) + "."


def cause_of(known, token):
    with pytest.raises(TokenRefused) as caught:
        known.subject(token)
    return caught.value.cause


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_token_in_order_tells_whose_it_is(issuer, algorithm):
    assert tokens(issuer.jwks).subject(issuer.token(algorithm)) == "anna@example.org"


@pytest.mark.parametrize(
    ("claims", "cause"),
    [
        ({"exp": -60}, "token_expired"),
        ({"exp": None}, "token_claim"),
        ({"exp": "soon"}, "token_malformed"),
        ({"nbf": 60}, "token_not_yet_valid"),
        ({"iat": 60}, "token_not_yet_valid"),
        ({"aud": "somebody-else"}, "token_audience"),
        ({"aud": None}, "token_claim"),
        ({"iss": "https://idp.example.evil"}, "token_issuer"),
        ({"iss": None}, "token_claim"),
        ({"sub": None}, "token_claim"),
        ({"sub": ""}, "token_claim"),
    ],
)
def test_a_token_with_a_wrong_claim_is_refused_and_says_which(issuer, claims, cause):
    # Times are seconds from now.
    given = {name: time.time() + value if isinstance(value, int) else value for name, value in claims.items()}

    assert cause_of(tokens(issuer.jwks), issuer.token(**given)) == cause


def test_the_clocks_may_differ_by_the_leeway(issuer):
    late = issuer.token(exp=time.time() - 5)

    assert tokens(issuer.jwks, leeway_s=10).subject(late) == "anna@example.org"
    assert cause_of(tokens(issuer.jwks, leeway_s=0), late) == "token_expired"


def test_one_audience_of_several_is_enough(issuer):
    assert tokens(issuer.jwks).subject(issuer.token(aud=["x", "vision-too"])) == "anna@example.org"


def test_the_claim_that_names_the_bearer_is_the_operators_choice(issuer):
    assert tokens(issuer.jwks, claim="azp").subject(issuer.token(azp="robot")) == "robot"


def test_a_token_signed_with_another_key_of_the_same_name_is_refused(issuer, other):
    assert cause_of(tokens(issuer.jwks), other.token()) == "token_signature"


def test_a_token_that_was_changed_is_refused(issuer):
    head, _, signature = issuer.token().split(".")
    claims = base64.urlsafe_b64encode(b'{"sub":"boss@example.org"}').rstrip(b"=").decode()

    assert cause_of(tokens(issuer.jwks), f"{head}.{claims}.{signature}") == "token_signature"


def test_a_token_of_an_unknown_key_is_refused(issuer):
    assert cause_of(tokens(issuer.jwks), issuer.token(kid="of-last-year")) == "token_key"


@pytest.mark.parametrize("alg", ["none", "None", "NONE", "HS256", ""])
def test_a_token_without_a_signature_of_an_issuer_is_refused(issuer, alg):
    token = unsigned({"sub": "anna@example.org", "iss": ISSUER, "aud": AUDIENCE, "exp": time.time() + 60}, alg=alg)

    assert cause_of(tokens(issuer.jwks), token) == "token_algorithm"


def test_a_public_key_is_no_secret_to_sign_with(issuer):
    claims = {"sub": "anna@example.org", "iss": ISSUER, "aud": AUDIENCE, "exp": time.time() + 60}
    signed = unsigned(claims, alg="HS256", kid="RS256").rstrip(".")
    digest = hmac.digest(issuer.jwks.encode(), signed.encode(), "sha256")

    forged = f"{signed}.{base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}"

    assert cause_of(tokens(issuer.jwks), forged) == "token_algorithm"


def test_a_key_serves_its_own_algorithm_alone(issuer):
    # A token that says it is signed as one key does, and names another.
    assert cause_of(tokens(issuer.jwks), issuer.token("ES256", kid="RS256")) == "token_algorithm"


def test_an_algorithm_that_the_operator_left_out_is_refused(issuer):
    assert cause_of(tokens(issuer.jwks, algorithms=["ES256"]), issuer.token("RS256")) == "token_algorithm"


DEEP = base64.urlsafe_b64encode(b"[" * 6000).decode()


@pytest.mark.parametrize(
    "text", ["a.b.c", "..", "eyJhbGciOiJFUzI1NiJ9.e30", "\ud800.\ud800.\ud800", f"{DEEP}.{DEEP}.{DEEP}"]
)
def test_what_is_no_token_is_refused(issuer, text):
    assert cause_of(tokens(issuer.jwks), text) in {"token_malformed", "token_key", "token_algorithm"}


def test_a_token_is_verified_once_until_it_expires(issuer, monkeypatch):
    clock = [time.time()]
    known, token = tokens(issuer.jwks, now=lambda: clock[0]), issuer.token()
    verified, decode = [], jwt.decode
    monkeypatch.setattr(jwt, "decode", lambda *args, **given: verified.append(None) or decode(*args, **given))

    for _ in range(3):
        known.subject(token)
    clock[0] += 601
    known.subject(token)

    assert len(verified) == 2


def test_no_more_than_so_many_verified_tokens_are_held(issuer, monkeypatch):
    monkeypatch.setattr("gateway.server.tokens._MOST_HELD", 3)
    known = tokens(issuer.jwks)

    for jti in range(10):
        known.subject(issuer.token(jti=str(jti)))

    assert len(known._held) == 3


def test_one_key_needs_no_name(issuer):
    text = json.dumps({"keys": [public_jwk("ES256", issuer.keys["ES256"])]})

    token = jwt.encode(jwt.decode(issuer.token(), options={"verify_signature": False}), issuer.keys["ES256"], "ES256")

    assert tokens(text).subject(token) == "anna@example.org"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (b"", "is not a JSON Web Key Set"),
        (b"[]", "is not a JSON Web Key Set"),
        (b'{"keys": [1]}', "is not a JSON Web Key Set"),
        (b"[" * 100_000, "is not a JSON Web Key Set"),
        (b'{"keys": []}', "has no key for signatures"),
        (b'{"keys": [{"kty": "new"}]}', "has no key for signatures"),
        (b'{"keys": [{"kty": "oct", "k": "c2VjcmV0", "alg": "HS256"}]}', "has a key that is secret"),
        (b" " * (1 << 20) + b"{}", "has more than 1 MiB"),
    ],
    ids=["nothing", "a list", "a number", "a deep one", "none", "unknown", "a secret", "a long one"],
)
def test_a_set_of_keys_that_is_none_is_refused(text, problem):
    with pytest.raises(ValueError, match=problem):
        public_keys(text, ALGORITHMS)


def jwk(algorithm, key, **changed):
    return {**json.loads(jwt.get_algorithm_by_name(algorithm).to_jwk(key)), "kid": "k", **changed}


def test_private_weak_and_ambiguous_keys_are_refused():
    strong, weak = ec.generate_private_key(ec.SECP256R1()), rsa.generate_private_key(65_537, 1024)  # noqa: S505  as weak as it is to be
    cases = {
        "secret": [jwk("ES256", strong)],
        "less than 2048": [jwk("RS256", weak.public_key())],
        "the same `kid`": [jwk("ES256", strong.public_key())] * 2,
    }
    for problem, keys in cases.items():
        with pytest.raises(ValueError, match=problem):
            public_keys(json.dumps({"keys": keys}).encode(), ALGORITHMS)


def test_keys_for_other_uses_are_passed_over(issuer):
    keys = [public_jwk("ES256", issuer.keys["ES256"]), jwk("ES256", issuer.keys["ES256"].public_key(), use="enc")]

    assert [key.key_id for key in public_keys(json.dumps({"keys": keys}).encode(), ALGORITHMS)] == ["ES256"]
