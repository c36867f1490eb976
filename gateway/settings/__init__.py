"""What an operator can set, read from a TOML file and the environment; every bad value is reported at once.

`VISION_GATEWAY_SERVER__GRPC_ADDRESS=0.0.0.0:50051` overrides `[server] grpc_address`.
"""

from __future__ import annotations

import tomllib
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError as UnreadableSource,
    TomlConfigSettingsSource,
)

from gateway.settings.door import JwtSettings, PrincipalSettings, TlsSettings
from gateway.settings.models import BreakerSettings, ModelSettings, RetrySettings
from gateway.settings.money import (
    BudgetSettings,
    BudgetsSettings,
    GpuPriceSettings,
    LedgerSettings,
    PriceSettings,
)
from gateway.settings.routes import (
    AgreementSettings,
    CacheSettings,
    HedgeSettings,
    RouteSettings,
    ShadowSettings,
)
from gateway.settings.server import ImageSettings, ServerSettings
from gateway.settings.tracing import TracingSettings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic_core import ErrorDetails
__all__ = [
    "AgreementSettings",
    "BreakerSettings",
    "BudgetSettings",
    "BudgetsSettings",
    "CacheSettings",
    "GpuPriceSettings",
    "HedgeSettings",
    "ImageSettings",
    "JwtSettings",
    "LedgerSettings",
    "ModelSettings",
    "PriceSettings",
    "PrincipalSettings",
    "RetrySettings",
    "RouteSettings",
    "ServerSettings",
    "Settings",
    "SettingsError",
    "ShadowSettings",
    "TlsSettings",
    "TracingSettings",
    "load",
]


class SettingsError(ValueError):
    """The settings cannot be used; *problems* has one line for each wrong value."""

    def __init__(self, problems: list[str], sound_models: Mapping[str, ModelSettings] | None = None) -> None:
        """*problems* are lines such as `models.gemma.price.input: not a number`.

        *sound_models* are those that nothing is wrong with so far; their backends may know better.
        """
        super().__init__("\n".join(problems))
        self.problems = problems
        self.sound_models = dict(sound_models or {})


class Settings(BaseSettings):
    """Everything an operator can set."""

    model_config = SettingsConfigDict(
        env_prefix="VISION_GATEWAY_",
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        nested_model_default_partial_update=True,
    )

    server: ServerSettings = Field(default_factory=ServerSettings)
    images: ImageSettings = Field(default_factory=ImageSettings)
    ledger: LedgerSettings = Field(default_factory=LedgerSettings)
    budgets: BudgetsSettings = Field(default_factory=BudgetsSettings)
    jwt: JwtSettings | None = None
    principals: dict[str, PrincipalSettings] = Field(default_factory=dict)
    models: dict[str, ModelSettings] = Field(default_factory=dict)
    # `default` unset: the models as the file lists them.
    routes: dict[str, RouteSettings] = Field(default_factory=dict)
    cache: CacheSettings = Field(default_factory=CacheSettings)
    tracing: TracingSettings = Field(default_factory=TracingSettings)

    @model_validator(mode="after")
    def _routes_name_models(self) -> Settings:
        if not self.models:
            raise ValueError("no model is configured; add a table such as [models.gemma-4-26b-a4b]")
        known = ", ".join(self.models)
        problems = [f"routes.{name} names no model" for name, route in self.routes.items() if not route.models]
        problems += (
            f"routes.{name} names {model!r}, which is not among the models: {known}"
            for name, route in self.routes.items()
            for model in route.named
            if model not in self.models
        )
        if problems:
            raise ValueError("\n".join(problems))
        return self

    @model_validator(mode="after")
    def _credentials_tell_principals_apart(self) -> Settings:
        given = [each for principal in self.principals.values() for each in principal.credentials]
        twice = sorted({setting for setting, each in given if given.count((setting, each)) > 1})
        problems = [f"principals: the same {setting} is there twice" for setting in twice]
        nobodies = {
            "anonymous": "whoever has a credential is not anonymous",
            "shadow": "nobody calls as the gateway's own shadow calls do",
        }
        problems += (
            f"principals.{name}.{setting}: {why}"
            for name, why in nobodies.items()
            if name in self.principals
            for setting in dict.fromkeys(setting for setting, _ in self.principals[name].credentials)
        )
        if any(setting == "subjects" for setting, _ in given) and self.jwt is None:
            problems.append("principals: subjects are of no use without [jwt]")
        if any(setting == "san" for setting, _ in given) and not (self.server.tls and self.server.tls.client_ca):
            problems.append("principals: san is of no use without a client_ca in [server.tls]")
        if problems:
            raise ValueError("\n".join(problems))
        return self

    @model_validator(mode="after")
    def _rights_name_what_there_is(self) -> Settings:
        known = {"models": self.models.keys(), "routes": self.all_routes.keys()}
        problems = [
            f"principals.{name}.{setting} names {each!r}, which is not there"
            for name, principal in self.principals.items()
            for setting, there in known.items()
            for each in getattr(principal, setting) or ()
            if each not in there
        ]
        problems += (
            f"server.metrics_principals names {each!r}, which is not there"
            for each in self.server.metrics_principals
            if each not in self.principals
        )
        if problems:
            raise ValueError("\n".join(problems))
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003  the base class names it
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003  likewise
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """What the program gives wins over the environment, and that over the file."""
        return (init_settings, env_settings, TomlConfigSettingsSource(settings_cls))

    @property
    def all_routes(self) -> dict[str, RouteSettings]:
        """The routes, `default` among them."""
        return {"default": RouteSettings(models=tuple(self.models)), **self.routes}


def load(path: Path | None = None, **given: Any) -> Settings:
    """Reads settings from *given* tables, the environment, and the TOML file at *path*, in this order of precedence.

    Raises `SettingsError` with every problem at once.
    """
    tables: dict[str, Any] = {}

    class FromFile(Settings):
        model_config = SettingsConfigDict(toml_file=path)

        @model_validator(mode="before")
        @classmethod
        def _keep(cls, merged: dict[str, Any]) -> dict[str, Any]:
            tables.update(merged)
            return merged

    try:
        if path is not None and not path.is_file():
            raise SettingsError([f"there is no settings file {path}"])
        return FromFile(**given)
    except OSError as exc:
        raise SettingsError([f"{path} cannot be read: {exc.strerror}"]) from None
    except UnicodeDecodeError:
        raise SettingsError([f"{path} is not TOML: it is not UTF-8"]) from None
    except tomllib.TOMLDecodeError as exc:
        raise SettingsError([f"{path} is not TOML: {exc}"]) from None
    except UnreadableSource as exc:
        raise SettingsError([str(exc)]) from None
    except ValidationError as exc:
        errors = exc.errors(include_input=False, include_url=False)
        problems = [line for error in errors for line in _problem(error).splitlines()]
        raise SettingsError(problems, _sound(tables.get("models"))) from None


def _sound(models: object) -> dict[str, ModelSettings]:
    found = {}
    for name, table in models.items() if isinstance(models, dict) else ():
        with suppress(ValidationError):
            found[name] = ModelSettings.model_validate(table)
    return found


def _problem(error: ErrorDetails) -> str:
    where = ".".join(str(part) for part in error["loc"])
    message = "no such setting" if error["type"] == "extra_forbidden" else error["msg"].removeprefix("Value error, ")
    return f"{where}: {message}" if where else message
