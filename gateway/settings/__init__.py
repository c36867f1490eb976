"""What an operator can set, read from a TOML file and the environment; every bad value is reported at once.

`VISION_GATEWAY_SERVER__GRPC_ADDRESS=0.0.0.0:50051` overrides `[server] grpc_address`.
"""

from __future__ import annotations

import tomllib
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, Field, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError as UnreadableSource,
    TomlConfigSettingsSource,
)

from gateway.settings import between
from gateway.settings.door import JwtSettings, PrincipalSettings, TlsSettings
from gateway.settings.models import BreakerSettings, ModelSettings, RetrySettings
from gateway.settings.money import (
    BudgetSettings,
    BudgetsSettings,
    GpuPriceSettings,
    LedgerSettings,
    PriceSettings,
)
from gateway.settings.problems import lines
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

_TableT = TypeVar("_TableT", bound=BaseModel)

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
    def _fits_together(self) -> Settings:
        problems = [
            *between.of_routes(self.models, self.routes),
            *between.of_credentials(self.principals, self.jwt, self.server.tls),
            *between.of_rights(self.principals, self.models, self.all_routes),
            *between.of_readers(self.server.metrics_principals, self.principals),
        ]
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
        problems = [line for error in errors for line in lines(error, Settings)]
        if any(error["loc"] for error in errors):
            # pydantic does not look at what lies between tables while one of them is wrong.
            problems += _between_sound(tables)
        raise SettingsError(problems, _sound(tables.get("models"), ModelSettings)) from None


def _between_sound(tables: Mapping[str, Any]) -> list[str]:
    models, routes = tables.get("models", {}), tables.get("routes", {})
    if not isinstance(models, dict) or not isinstance(routes, dict):
        return []
    principals = _sound(tables.get("principals"), PrincipalSettings)
    return [
        *between.of_routes(models, _sound(routes, RouteSettings)),
        *between.of_rights(principals, models, {"default", *routes}),
    ]


def _sound(given: object, table: type[_TableT]) -> dict[str, _TableT]:
    found = {}
    for name, each in given.items() if isinstance(given, dict) else ():
        with suppress(ValidationError):
            found[name] = table.model_validate(each)
    return found
