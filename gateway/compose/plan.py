"""What the settings say of each model, found and checked; nothing is opened."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from gateway import profiles, tasks
from gateway.backends import options_of, parse_options
from gateway.compose.files import digests
from gateway.pricing import FREE, Price, per_gpu_hour, per_million
from gateway.quoting import Quoter
from gateway.server.service import RPCS
from gateway.settings import GpuPriceSettings, Settings, SettingsError, load
from gateway.settings.problems import lines

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from gateway.profiles import Profile
    from gateway.settings import ModelSettings

_FAMILIES = {"triton": "gemma4", "openai": "gpt55"}


@dataclass(frozen=True, slots=True)
class Plan:
    """One model of the settings, with everything about it found and checked.

    *files* has a digest of each file that the options name, such as a key: one that changed makes another plan.
    """

    name: str
    settings: ModelSettings
    options: BaseModel
    profile: Profile
    price: Price
    files: Mapping[Path, str] = field(default_factory=dict, repr=False)

    @property
    def local(self) -> bool:
        """Whether the model is in the operator's own hands."""
        return self.settings.kind != "openai" if self.settings.local is None else self.settings.local

    @property
    def quality(self) -> Mapping[str, float]:
        """Share of correct answers in [0, 1], `overall` and by category; empty is unknown."""
        return self.profile.quality if self.settings.quality is None else self.settings.quality


def check(settings: Settings) -> list[str]:
    """Says what is wrong with the models of *settings*, a line for each problem; calls nobody."""
    return _read(settings)[1]


def read(path: Path | None = None, **given: Any) -> Settings:
    """Reads settings like `gateway.settings.load`, and checks their models too.

    Raises `SettingsError` with every problem of both at once.
    """
    problems: list[str] = []
    try:
        settings = load(path, **given)
    except SettingsError as exc:
        problems += exc.problems
        settings = Settings.model_construct(models=exc.sound_models)
    problems += check(settings)
    if problems:
        raise SettingsError(problems)
    return settings


def plans(settings: Settings) -> dict[str, Plan]:
    """Gives the plans of the models by name; raises `SettingsError` with every problem."""
    found, problems = _read(settings)
    if problems:
        raise SettingsError(problems)
    return {plan.name: plan for plan in found}


def quoters(settings: Settings) -> dict[str, tuple[Quoter, Profile]]:
    """Gives what prices calls at each model of *settings*, and the model's profile; calls nobody.

    Raises `SettingsError` with every problem of the models.
    """
    known = tasks.askable(tasks.load())
    return {
        name: (Quoter(name, plan.profile, plan.price, known), plan.profile) for name, plan in plans(settings).items()
    }


def _read(settings: Settings) -> tuple[list[Plan], list[str]]:
    found: list[Plan] = []
    problems: list[str] = []
    rpcs = ", ".join(tasks.load())
    for name, principal in settings.principals.items():
        if others := sorted(set(principal.rpcs or ()).difference(RPCS)):
            problems.append(f"principals.{name}.rpcs: no RPC is named {', '.join(others)}; there are {', '.join(RPCS)}")
    for name, model in settings.models.items():
        if unknown := set(model.tasks or ()).difference(rpcs.split(", ")):
            problems.append(f"models.{name}.tasks: no RPC is named {', '.join(sorted(unknown))}; there are {rpcs}")
        if model.tasks == ():
            problems.append(f"models.{name}.tasks: names no RPC; left out, it is all that the family can do")
        try:
            options = parse_options(model.kind, model.options)
            profile = profiles.load(_family(model))
            price = _price(model, profile, str(getattr(options, "model", name)))
        except ValidationError as exc:
            errors = exc.errors(include_input=False, include_url=False)
            known = type(model).model_fields
            problems += (
                f"models.{name}.{line}"
                for error in errors
                for line in lines(error, options_of(model.kind), others=known)
            )
        except (LookupError, ValueError) as exc:
            problems.append(f"models.{name}: {exc.args[0]}")
        else:
            found.append(Plan(name, model, options, profile, price, digests(_paths(options))))
    return found, problems


def _family(model: ModelSettings) -> str:
    family = model.profile or _FAMILIES.get(model.kind)
    if family is None:
        raise LookupError(f"kind {model.kind!r} serves any family: name one with profile")
    return family


def _price(model: ModelSettings, profile: Profile, provider_model: str) -> Price:
    if model.price is None:
        return profile.price(provider_model)
    if model.price == "free":
        return FREE
    if isinstance(model.price, GpuPriceSettings):
        given = model.price
        return per_gpu_hour(given.gpu_hour, given.input_tokens_per_s, given.output_tokens_per_s)
    return per_million(model.price.input, model.price.output, model.price.cached_input)


def _paths(options: BaseModel) -> Iterator[Path]:
    for _, value in options:
        if isinstance(value, Path):
            yield value
        elif isinstance(value, BaseModel):
            yield from _paths(value)
