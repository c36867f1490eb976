"""Who makes a call: the principal of its API key, its token, or its certificate."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gateway.errors import Unauthenticated
from gateway.server.tokens import TokenRefused

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from gateway.server.tokens import Tokens

ANONYMOUS = "anonymous"
_HEADER = "authorization"
_SCHEME = "bearer "
# A token has three parts, RFC 7515; whatever else has as many is refused all the same, as a token.
_DOTS_OF_A_TOKEN = 2
# https://github.com/grpc/grpc/blob/master/include/grpc/grpc_security_constants.h
_CERTIFICATE = "x509_subject"
_NAMES = ("peer_uri", "peer_dns")

_MESSAGES = {
    "missing": "this gateway needs a credential: send the metadata `authorization: Bearer KEY`",
    "malformed": "the metadata is not `authorization: Bearer KEY`, or is there twice",
    "unknown_key": "the key is not known; send the metadata `authorization: Bearer KEY`",
    "unknown_certificate": "the certificate is for nobody who is known here, or for several",
    "mismatch": "the certificate and the metadata `authorization` are of two different principals",
    "unknown_subject": "the token is of nobody who is known here",
    "token_malformed": "the token is not a JSON Web Token",
    "token_algorithm": "the token is signed in a way that is not accepted here",
    "token_key": "the token is signed with a key that is not known here",
    "token_signature": "the token's signature is wrong",
    "token_expired": "the token has expired",
    "token_not_yet_valid": "the token is not valid yet",
    "token_audience": "the token is for somebody else: see its `aud`",
    "token_issuer": "the token is of an issuer that is not trusted here",
    "token_claim": "the token lacks a claim that it needs",
}
CAUSES = frozenset(_MESSAGES)


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a call shows of its maker: every `authorization`, and the names in its certificate, None without one.

    Whoever gives names has verified the certificate.
    """

    authorization: tuple[str | bytes, ...] = ()
    names: tuple[str, ...] | None = None


def credentials(
    metadata: Iterable[tuple[str, str | bytes]] | None, peer: Mapping[str, Iterable[bytes]] | None
) -> Credentials:
    """Gives those of a gRPC call; *peer* is what gRPC knows of the connection (`auth_context`)."""
    names = None
    if peer and _CERTIFICATE in peer:
        names = tuple(name.decode("utf-8", "replace") for kind in _NAMES for name in peer.get(kind, ()))
    return Credentials(tuple(value for name, value in metadata or () if name == _HEADER), names)


@dataclass(frozen=True, slots=True)
class Known:
    """The principals by what shows who they are.

    *keys* has the SHA-256 of API keys in lower-case hex, *names* those in certificates, *subjects* those in tokens.
    """

    keys: Mapping[str, str] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)
    subjects: Mapping[str, str] = field(default_factory=dict)


class Identity:
    """Knows keys by their SHA-256 alone; comparing hashes tells nobody how much of a guessed key was right.

    What a call says in `authorization` names its principal; where it says nothing, its certificate does. Where both
    name one, it must be the same. A wrong one is refused whatever else is right, also where calls need none.
    """

    def __init__(
        self, known: Known, *, tokens: Tokens | None = None, anonymous: bool = True, is_open: bool = False
    ) -> None:
        """*anonymous* says whether calls need no credential; with *is_open* nobody looks at any."""
        self._known = known
        self._tokens = tokens
        self._anonymous = anonymous
        self._is_open = is_open

    def principal(self, given: Credentials) -> str:
        """Gives the principal of a call with the credentials *given*; raises `Unauthenticated`."""
        if self._is_open:
            return ANONYMOUS
        certified = {self._known.names[name] for name in given.names or () if name in self._known.names}
        if given.authorization:
            principal = self._bearer(given.authorization)
            if certified - {principal}:
                raise _refused("mismatch")
            return principal
        if given.names is not None and self._known.names:
            if len(certified) != 1:
                raise _refused("unknown_certificate")
            return certified.pop()
        if self._anonymous:
            return ANONYMOUS
        raise _refused("missing")

    def _bearer(self, authorization: tuple[str | bytes, ...]) -> str:
        value = authorization[0]
        text = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
        if len(authorization) > 1 or not text.lower().startswith(_SCHEME):
            raise _refused("malformed")
        bearer = text[len(_SCHEME) :].strip()
        # A lone surrogate has no UTF-8, and is in no key.
        found = self._known.keys.get(hashlib.sha256(bearer.encode("utf-8", "replace")).hexdigest())
        if found is not None:
            return found
        if self._tokens is None or bearer.count(".") != _DOTS_OF_A_TOKEN:
            raise _refused("unknown_key")
        try:
            subject = self._tokens.subject(bearer)
        except TokenRefused as exc:
            raise _refused(exc.cause) from None
        if subject not in self._known.subjects:
            raise _refused("unknown_subject")
        return self._known.subjects[subject]


def _refused(cause: str) -> Unauthenticated:
    return Unauthenticated(_MESSAGES[cause], cause=cause)
