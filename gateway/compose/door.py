"""Makes the door: reads and checks its files, and says who comes in and what each may do."""

from __future__ import annotations

import ssl
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from gateway.compose.files import digests
from gateway.rights import Rights
from gateway.server.identity import ANONYMOUS, Identity, Known
from gateway.server.tls import Material, http_context
from gateway.server.tokens import Tokens, public_keys
from gateway.settings import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from gateway.settings import JwtSettings, PrincipalSettings, Settings, TlsSettings

_MIB = 1 << 20
# Principals that nobody has to show a credential for.
_NOBODIES = {ANONYMOUS, "shadow"}


@dataclass(frozen=True, slots=True)
class Door:
    """What one reading of the settings makes of the door; *files* has a digest of each file that it was made of."""

    identity: Identity
    rights: Mapping[str, Rights]
    tls: Material | None
    files: Mapping[Path, str] = field(default_factory=dict, repr=False)


def files(settings: Settings) -> dict[Path, str]:
    """Gives a digest of each file that the door of *settings* is made of."""
    tls, jwt = settings.server.tls, settings.jwt
    named = [tls.cert, tls.key, tls.client_ca] if tls else []
    return digests([*filter(None, named), *([jwt.jwks_file] if jwt else [])])


def read(settings: Settings) -> Door:
    """Makes the door of *settings*; raises `SettingsError` with every problem of its files."""
    # First: whatever changes from here on is a change.
    known = files(settings)
    problems: list[str] = []
    tls = _material(settings.server.tls, problems) if settings.server.tls else None
    tokens = _tokens(settings.jwt, problems) if settings.jwt else None
    if problems:
        raise SettingsError(problems)
    return Door(
        _identity(settings, tokens), {name: _rights(each) for name, each in settings.principals.items()}, tls, known
    )


def _identity(settings: Settings, tokens: Tokens | None) -> Identity:
    principals = settings.principals

    def by(setting: str) -> dict[str, str]:
        return {
            each: name
            for name, principal in principals.items()
            for kind, each in principal.credentials
            if kind == setting
        }

    return Identity(
        Known(keys=by("key_sha256"), names=by("san"), subjects=by("subjects")),
        tokens=tokens,
        anonymous=ANONYMOUS in principals,
        # Not where somebody is named but has no credential: when the last key is revoked, the door stays shut.
        is_open=not principals.keys() - _NOBODIES and tokens is None,
    )


def _rights(principal: PrincipalSettings) -> Rights:
    most_mib = principal.max_image_mib
    return Rights(
        rpcs=None if principal.rpcs is None else frozenset(principal.rpcs),
        models=None if principal.models is None else frozenset(principal.models),
        routes=principal.routes,
        local_only=principal.local_only,
        max_image_bytes=None if most_mib is None else round(most_mib * _MIB),
    )


def _tokens(jwt: JwtSettings, problems: list[str]) -> Tokens | None:
    try:
        keys = public_keys(jwt.jwks_file.read_bytes(), jwt.algorithms)
    except OSError as exc:
        problems.append(f"jwt.jwks_file: {jwt.jwks_file}: {exc.strerror}")
    except ValueError as exc:
        problems.append(f"jwt.jwks_file: {jwt.jwks_file} {exc}")
    else:
        return Tokens(
            keys,
            issuer=jwt.issuer,
            audience=jwt.audience,
            claim=jwt.principal_claim,
            leeway_s=jwt.leeway_s,
            now=time.time,
        )
    return None


def _material(tls: TlsSettings, problems: list[str]) -> Material | None:
    texts: dict[str, bytes] = {}
    for name, path in {"cert": tls.cert, "key": tls.key, "client_ca": tls.client_ca}.items():
        try:
            texts[name] = path.read_bytes() if path else b""
        except OSError as exc:
            problems.append(f"server.tls.{name}: {path}: {exc.strerror}")
    if len(texts) < 3:  # noqa: PLR2004  all of them
        return None
    try:
        certificate = x509.load_pem_x509_certificates(texts["cert"])[0]
    except ValueError:
        problems.append(f"server.tls.cert: {tls.cert} has no certificate in PEM")
        return None
    try:
        key = load_pem_private_key(texts["key"], None)
    except (ValueError, TypeError):
        problems.append(f"server.tls.key: {tls.key} has no key in PEM, or one that needs a password")
        return None
    if key.public_key() != certificate.public_key():
        # As it is for a moment while both files are being renewed.
        problems.append(f"server.tls.key: {tls.key} is not the key of the certificate in {tls.cert}")
        return None
    try:
        http = _http(tls, texts["client_ca"])
    except (ssl.SSLError, OSError, ValueError):
        problems.append("server.tls: the files cannot be used, or changed while they were read")
        return None
    return Material(
        texts["cert"], texts["key"], texts["client_ca"] or None, http, certificate.not_valid_after_utc.timestamp()
    )


def _http(tls: TlsSettings, client_ca: bytes) -> ssl.SSLContext:
    context = http_context()
    context.load_cert_chain(tls.cert, tls.key)
    if client_ca:
        context.load_verify_locations(cadata=client_ca.decode("ascii"))
        context.verify_mode = ssl.CERT_OPTIONAL
    return context
