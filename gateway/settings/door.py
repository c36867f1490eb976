"""The tables about the door: how it is locked, who comes in, and what each may do."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from gateway.settings.money import BudgetSettings
from gateway.settings.table import Table

_Text = Annotated[str, StringConstraints(min_length=1)]


class TlsSettings(Table):
    """`[server.tls]`: PEM files, read again when they change."""

    # The certificate with what stands between it and its authority, and its key.
    cert: Path
    key: Path
    # Authorities that sign the certificates of callers.
    client_ca: Path | None = None
    # Whether callers must have one. gRPC for Python knows nothing in between.
    client_auth: Literal["none", "require"] = "none"
    # Whether the HTTP port speaks TLS too. There a certificate is asked for, and never required.
    http: bool = True

    @model_validator(mode="after")
    def _has_authorities(self) -> TlsSettings:
        if self.client_auth == "require" and self.client_ca is None:
            raise ValueError('client_ca: says who signs the certificates that client_auth = "require" asks for')
        if self.client_auth == "none" and self.client_ca is not None:
            raise ValueError('client_ca: is of no use without client_auth = "require"')
        return self


class JwtSettings(Table):
    """`[jwt]`: tokens of an identity provider, and how they are verified. Nothing is fetched."""

    # The `iss` that tokens must have, and one of the `aud`.
    issuer: _Text
    audience: Annotated[tuple[_Text, ...], Field(min_length=1)]
    # The provider's public keys, a JSON Web Key Set; read again when it changes.
    jwks_file: Path
    # The claim that tells whose token it is; principals list its values as `subjects`.
    principal_claim: _Text = "sub"
    algorithms: Annotated[tuple[Literal["RS256", "ES256", "EdDSA"], ...], Field(min_length=1)] = (
        "RS256",
        "ES256",
        "EdDSA",
    )
    # Seconds by which the clocks of the provider and of this machine may differ.
    leeway_s: float = Field(default=10.0, ge=0, le=300)


class PrincipalSettings(Table):
    """`[principals.NAME]`: one caller, its credentials, and what it may use; `anonymous` is whoever has none."""

    # SHA-256 of its API keys, in lower-case hex.
    key_sha256: tuple[Annotated[str, Field(pattern="^[0-9a-f]{64}$")], ...] = ()
    # URIs, such as spiffe://example.org/ingest, or DNS names that its certificates are for.
    san: tuple[_Text, ...] = ()
    # What stands in the `principal_claim` of its tokens.
    subjects: tuple[_Text, ...] = ()
    # What it may call, ask and follow, by name. Unset: all there is.
    rpcs: tuple[str, ...] | None = Field(default=None, min_length=1)
    models: tuple[str, ...] | None = Field(default=None, min_length=1)
    routes: tuple[str, ...] | None = Field(default=None, min_length=1)
    # Whether each call is kept to local models, whatever it asks for.
    local_only: bool = False
    # MiB of one image. Unset: what `[images]` says.
    max_image_mib: float | None = Field(default=None, gt=0, le=512)
    budget: BudgetSettings = Field(default_factory=BudgetSettings)
    # Tokens that models which are not free read and write in a minute. Unset: no limit.
    tokens_per_min: int | None = Field(default=None, ge=1, le=10**12)
    # Calls in any second, and at once. Unset: no limit.
    requests_per_s: int | None = Field(default=None, ge=1, le=100_000)
    max_inflight: int | None = Field(default=None, ge=1, le=100_000)

    @property
    def credentials(self) -> tuple[tuple[str, str], ...]:
        """All of its credentials, each with the name of the setting that has it."""
        named = {"key_sha256": self.key_sha256, "san": self.san, "subjects": self.subjects}
        return tuple((setting, each) for setting, all_of_it in named.items() for each in all_of_it)
