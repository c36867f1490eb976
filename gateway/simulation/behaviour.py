"""How simulated models behave: what they get right, how long they take, and how much they write."""

from __future__ import annotations

import tomllib
from fractions import Fraction
from typing import TYPE_CHECKING, Annotated, TypeAlias

from pydantic import BeforeValidator, Field, ValidationError, field_validator

from gateway.settings.problems import lines
from gateway.settings.table import Table

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

OVERALL = "overall"


class BadBehaviour(ValueError):
    """What a file says of models' behaviour cannot be used; *problems* has a line for each wrong value."""

    def __init__(self, problems: list[str]) -> None:
        """*problems* are lines such as `gpt-5.5.failures: ...`."""
        super().__init__("\n".join(problems))
        self.problems = problems


# A share is exact, so that what is expected of a route is: 0.8 is 4/5, and "12/15" may be written too.
_Share: TypeAlias = Annotated[Fraction, BeforeValidator(lambda given: Fraction(str(given))), Field(ge=0, le=1)]


class Behaviour(Table):
    """One model, as it is simulated."""

    # Share of right answers: one, or by category, and `overall` for every other.
    right: dict[str, _Share]
    # Share of its wrong answers that the checks of the task find doubtful; and of its right ones.
    noticed: _Share = Fraction(1, 4)
    false_alarms: _Share = Fraction(0)
    # Tokens read for a call whose image has no size on record. Unset: as counted for an image of 1024 x 1024.
    input_tokens: int | None = Field(default=None, ge=0)
    # Median of tokens written, and the standard deviation of their logarithm (log-normal).
    output_tokens: int = Field(default=176, ge=1)
    output_spread: float = Field(default=0.0, ge=0, le=3)
    # Median seconds of an answer: the first, and as many of the second as tokens are written. Log-normal too.
    seconds: float = Field(default=1.0, ge=0, le=3600)
    seconds_per_token: float = Field(default=0.0, ge=0, le=60)
    seconds_spread: float = Field(default=0.0, ge=0, le=3)
    # Calls that it works on at once; others wait for it. Unset: any number.
    capacity: int | None = Field(default=None, ge=1)
    # Share of attempts that fail as UNAVAILABLE, after so many seconds and for nothing.
    failures: float = Field(default=0.0, ge=0, le=1)
    failure_seconds: float = Field(default=0.1, ge=0, le=3600)

    @field_validator("right", mode="before")
    @classmethod
    def _one_figure(cls, given: object) -> object:
        return given if isinstance(given, dict) else {OVERALL: given}

    @field_validator("right")
    @classmethod
    def _knows_of_the_others(cls, given: dict[str, Fraction]) -> dict[str, Fraction]:
        if OVERALL not in given:
            raise ValueError(f"has no share {OVERALL!r}, for calls of other categories")
        return given

    def share_right(self, category: str) -> Fraction:
        """Gives the share of right answers to calls of *category*."""
        return self.right.get(category, self.right[OVERALL])

    def share_doubtful(self, *, right: bool) -> Fraction:
        """Gives the share of answers, *right* ones or wrong ones, that the checks of the task find doubtful."""
        return self.false_alarms if right else self.noticed


# Right answers, by category, and median tokens of both: Roboflow's comparison of 67 prompts (visioncheckup.com).
# How many wrong answers the checks of a task notice nobody has published: `noticed` is a guess.
DEFAULTS: Mapping[str, Behaviour] = {
    # Seconds: 76 tokens a second at 16 calls at once, as was reported for vLLM on one RTX 5090; half a second to read
    # an image is a guess.
    "gemma4": Behaviour(
        right={
            OVERALL: Fraction(46, 67),
            "defect": Fraction(12, 15),
            "document": Fraction(8, 9),
            "counting": Fraction(1, 10),
            "object": Fraction(12, 14),
            "spatial": Fraction(13, 19),
        },
        input_tokens=294,
        output_tokens=214,
        seconds=0.5,
        seconds_per_token=1 / 76,
        seconds_spread=0.14,
    ),
    # Seconds: fitted to 24 calls that Roboflow's vlm-exam published (R2 0.91), and what they are spread around it.
    "gpt55": Behaviour(
        right={
            OVERALL: Fraction(52, 67),
            "defect": Fraction(13, 15),
            "document": Fraction(8, 9),
            "counting": Fraction(3, 10),
            "object": Fraction(13, 14),
            "spatial": Fraction(15, 19),
        },
        input_tokens=1400,
        output_tokens=138,
        seconds=3.4,
        seconds_per_token=0.0112,
        seconds_spread=0.14,
    ),
}


def read(path: Path, families: Mapping[str, str]) -> dict[str, Behaviour]:
    """Reads a table for each model, by its name in the settings; each changes the behaviour of the model's family.

    *families* gives the family of every model. Raises `BadBehaviour` with every problem, and OSError.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except ValueError as exc:
        raise BadBehaviour([f"{path} is not TOML: {exc}"]) from None
    unknown = tables.keys() - families.keys()
    known = ", ".join(families)
    problems = [f"{name}: the settings have no such model; they have {known}" for name in sorted(unknown)]
    return _all(families, tables, problems)


def of_families(families: Mapping[str, str]) -> dict[str, Behaviour]:
    """Gives each model the behaviour of its family; raises `BadBehaviour` for a family of which nothing is known."""
    return _all(families, {}, [])


def _all(families: Mapping[str, str], tables: Mapping[str, object], problems: list[str]) -> dict[str, Behaviour]:
    found: dict[str, Behaviour] = {}
    for name, family in families.items():
        known = DEFAULTS.get(family)
        given = tables.get(name, {})
        if not isinstance(given, dict):
            problems.append(f"{name}: must be a table")
            continue
        base = known.model_dump(exclude_unset=True) if known else {}
        merged = {**base, **given}
        if "right" not in merged:
            problems.append(f"{name}: nothing is known of the family {family}: give its share of `right` answers")
            continue
        if isinstance(merged["right"], dict) and known:
            merged["right"] = {**known.right, **merged["right"]}
        try:
            found[name] = Behaviour.model_validate(merged)
        except ValidationError as exc:
            problems += (
                f"{name}.{line}"
                for error in exc.errors(include_input=False, include_url=False)
                for line in lines(error, Behaviour)
            )
    if problems:
        raise BadBehaviour(problems)
    return found
