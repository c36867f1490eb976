"""Which of several credentials says who calls, and that a wrong one is never passed over."""

from __future__ import annotations

import hashlib

import pytest

from gateway.errors import Unauthenticated
from gateway.server.identity import CAUSES, Credentials, Identity, Known, credentials
from gateway.server.tokens import TokenRefused


def sha(key):
    return hashlib.sha256(key.encode()).hexdigest()


class StandInTokens:
    """Stands in for a verifier of tokens: `a.b.SUBJECT` is in order, and `a.b.` has expired."""

    def subject(self, token):
        if not (subject := token.split(".")[2]):
            raise TokenRefused("token_expired")
        return subject


KNOWN = Known(
    keys={sha("k"): "keyed", sha("c"): "certified"},
    names={"spiffe://example.org/c": "certified", "d.example.org": "other"},
    subjects={"t": "tokened", "c": "certified"},
)


def identity(**given):
    return Identity(KNOWN, **{"tokens": StandInTokens(), "anonymous": True, **given})


def bearer(text):
    return (f"Bearer {text}",)


NAMED = ("spiffe://example.org/c", "unknown.example.org")


@pytest.mark.parametrize(
    ("given", "principal"),
    [
        (Credentials(), "anonymous"),
        (Credentials(bearer("k")), "keyed"),
        (Credentials((b"bearer k",)), "keyed"),
        (Credentials(bearer("a.b.t")), "tokened"),
        (Credentials(names=NAMED), "certified"),
        (Credentials(bearer("c"), NAMED), "certified"),
        (Credentials(bearer("a.b.c"), NAMED), "certified"),
        (Credentials(bearer("k"), ("unknown.example.org",)), "keyed"),
        (Credentials(bearer("k"), ()), "keyed"),
    ],
)
def test_a_credential_says_who_calls(given, principal):
    assert identity().principal(given) == principal


@pytest.mark.parametrize(
    ("given", "cause"),
    [
        (Credentials(bearer("unknown")), "unknown_key"),
        (Credentials(bearer("")), "unknown_key"),
        (Credentials(("k",)), "malformed"),
        (Credentials(("Basic k",)), "malformed"),
        (Credentials(bearer("k") * 2), "malformed"),
        (Credentials(bearer("a.b.")), "token_expired"),
        (Credentials(bearer("a.b.nobody")), "unknown_subject"),
        (Credentials(bearer("unknown"), NAMED), "unknown_key"),
        (Credentials(bearer("a.b."), NAMED), "token_expired"),
        (Credentials(bearer("k"), NAMED), "mismatch"),
        (Credentials(names=("unknown.example.org",)), "unknown_certificate"),
        (Credentials(names=()), "unknown_certificate"),
        (Credentials(names=("spiffe://example.org/c", "d.example.org")), "unknown_certificate"),
        (Credentials(bearer("c"), ("spiffe://example.org/c", "d.example.org")), "mismatch"),
    ],
)
def test_a_wrong_credential_is_refused_also_where_none_is_needed(given, cause):
    with pytest.raises(Unauthenticated) as caught:
        identity().principal(given)

    assert caught.value.metadata == {"cause": cause}
    assert cause in CAUSES


def test_where_a_credential_is_needed_none_is_refused():
    with pytest.raises(Unauthenticated) as caught:
        identity(anonymous=False).principal(Credentials())

    assert caught.value.cause == "missing"


def test_without_an_issuer_what_looks_like_a_token_is_an_unknown_key():
    with pytest.raises(Unauthenticated) as caught:
        identity(tokens=None).principal(Credentials(bearer("a.b.t")))

    assert caught.value.cause == "unknown_key"


def test_where_no_principal_has_a_name_in_certificates_they_are_no_credentials():
    only_keys = Identity(Known(keys={sha("k"): "keyed"}), anonymous=True)

    assert only_keys.principal(Credentials(names=("unknown.example.org",))) == "anonymous"


def test_the_names_in_a_certificate_are_its_uris_and_dns_names():
    peer = {"x509_subject": [b"CN=x"], "peer_uri": [b"spiffe://e/x"], "peer_dns": [b"x.e"], "peer_email": [b"x@e"]}

    assert credentials([("authorization", "Bearer k"), ("x", "y")], peer) == Credentials(
        ("Bearer k",), ("spiffe://e/x", "x.e")
    )
    assert credentials(None, {"transport_security_type": [b"ssl"]}) == Credentials()
