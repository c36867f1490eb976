"""Verifies JSON Web Tokens (RFC 7519) against the public keys of whoever issues them."""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from gateway.domain import Clock

_LARGEST_SET = 1 << 20
# https://www.rfc-editor.org/rfc/rfc7518#section-3.3
_LEAST_RSA_BITS = 2048
# Tokens that were verified and are not verified again: about 1 MiB.
_MOST_HELD = 4096

# The first that fits; the library's own names, each a subclass of `InvalidTokenError`.
_CAUSES: tuple[tuple[type[jwt.PyJWTError], str], ...] = (
    (jwt.InvalidSignatureError, "token_signature"),
    (jwt.ExpiredSignatureError, "token_expired"),
    (jwt.ImmatureSignatureError, "token_not_yet_valid"),
    (jwt.InvalidAudienceError, "token_audience"),
    (jwt.InvalidIssuerError, "token_issuer"),
    (jwt.InvalidAlgorithmError, "token_algorithm"),
    (jwt.MissingRequiredClaimError, "token_claim"),
)


class TokenRefused(Exception):
    """The token is not to be trusted; *cause* is one of a closed set."""

    def __init__(self, cause: str) -> None:
        """*cause* is such as `token_expired`."""
        super().__init__(cause)
        self.cause = cause


class Tokens:
    """Tells whose a token is."""

    def __init__(
        self,
        keys: Sequence[jwt.PyJWK],
        *,
        issuer: str,
        audience: Collection[str],
        claim: str,
        leeway_s: float,
        now: Clock,
    ) -> None:
        """*keys* are public; *claim* tells whose the token is. *now* is a wall clock, in Unix time."""
        self._keys = {key.key_id: key for key in keys}
        self._only = keys[0] if len(keys) == 1 else None
        self._algorithms = {key.algorithm_name for key in keys}
        self._issuer = issuer
        self._audience = list(audience)
        self._claim = claim
        self._leeway_s = leeway_s
        self._now = now
        self._held: OrderedDict[bytes, tuple[str, float]] = OrderedDict()

    def subject(self, token: str) -> str:
        """Gives what *token* says of its bearer; raises `TokenRefused`."""
        if not token.isascii():
            raise TokenRefused("token_malformed")
        digest = hashlib.sha256(token.encode()).digest()
        if (held := self._held.get(digest)) is not None:
            subject, expires = held
            if self._now() < expires:
                self._held.move_to_end(digest)
                return subject
            del self._held[digest]
        claims = self._verified(token)
        subject = claims[self._claim]
        if not isinstance(subject, str) or not subject:
            raise TokenRefused("token_claim")
        self._held[digest] = subject, float(claims["exp"])
        if len(self._held) > _MOST_HELD:
            self._held.popitem(last=False)
        return subject

    def _verified(self, token: str) -> dict[str, Any]:
        try:
            key = self._key(jwt.get_unverified_header(token))
            return jwt.decode(
                token,
                key,
                # Bound to the key: a token does not choose how it is verified.
                algorithms=[key.algorithm_name],
                issuer=self._issuer,
                audience=self._audience,
                leeway=self._leeway_s,
                options={"require": ["exp", "iss", "aud", self._claim]},
            )
        except jwt.PyJWTError as exc:
            cause = next((cause for kind, cause in _CAUSES if isinstance(exc, kind)), "token_malformed")
            raise TokenRefused(cause) from None
        except (ValueError, TypeError, OverflowError, RecursionError):
            # What JSON of strangers' may do to who reads it, besides what the library expects.
            raise TokenRefused("token_malformed") from None

    def _key(self, header: dict[str, Any]) -> jwt.PyJWK:
        if header.get("alg") not in self._algorithms:
            raise TokenRefused("token_algorithm")
        kid = header.get("kid")
        key = self._only if kid is None else self._keys.get(kid)
        if key is None:
            raise TokenRefused("token_key")
        return key


def public_keys(text: bytes, algorithms: Collection[str]) -> list[jwt.PyJWK]:
    """Reads a JSON Web Key Set (RFC 7517), and gives its keys for signatures by *algorithms*.

    Raises ValueError, which says nothing of what stands in *text*, where it has none, or one that is not public.
    """
    if len(text) > _LARGEST_SET:
        raise ValueError("has more than 1 MiB")
    try:
        entries = [dict(each) for each in json.loads(text)["keys"]]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise ValueError('is not a JSON Web Key Set, {"keys": [...]}') from None
    found: dict[str | None, jwt.PyJWK] = {}
    for entry in entries:
        if entry.get("kty") == "oct" or "d" in entry:
            raise ValueError("has a key that is secret; only public ones belong here")
        if (key := _public_key(entry)) is None or key.algorithm_name not in algorithms:
            continue
        if isinstance(key.key, RSAPublicKey) and key.key.key_size < _LEAST_RSA_BITS:
            raise ValueError(f"has an RSA key of less than {_LEAST_RSA_BITS} bits")
        if key.key_id in found:
            raise ValueError("has two keys of the same `kid`, or without one")
        found[key.key_id] = key
    if not found:
        raise ValueError(f"has no key for signatures by {', '.join(algorithms)}")
    return list(found.values())


def _public_key(entry: dict[str, Any]) -> jwt.PyJWK | None:
    if entry.get("use", "sig") != "sig" or not isinstance(entry.get("kid", ""), str):
        return None
    try:
        return jwt.PyJWK(entry)
    except jwt.PyJWTError:
        # Of a type that this library does not know: the standard has such keys ignored.
        return None
