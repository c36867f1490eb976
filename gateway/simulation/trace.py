"""The calls of a simulation: recorded ones from a file, or those of the published comparison in random order."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Literal

from pydantic import Field, ValidationError, field_validator

from gateway import tasks
from gateway.settings.problems import lines
from gateway.settings.table import Table

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_RPCS = tuple(tasks.load())
# How many of the 67 prompts of Roboflow's comparison (visioncheckup.com) are of each category.
SEED_MIX = {"defect": 15, "document": 9, "counting": 10, "object": 14, "spatial": 19}
# Of images whose size nobody recorded. At it, both families' own detail for VQA comes near the published medians of
# input tokens: 258 image tokens of 294, and 1,229 of 1,400.
DEFAULT_SIDE_PX = 1024


class BadTrace(ValueError):
    """A trace cannot be replayed; *problems* has a line for each of its lines that is wrong."""

    def __init__(self, problems: list[str]) -> None:
        """*problems* name lines by number."""
        super().__init__("\n".join(problems))
        self.problems = problems


class Call(Table):
    """One call of a trace, a JSON object on a line of its own. What is not there has its default."""

    # Seconds since the trace began.
    at_s: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    rpc: str = "VQA"
    # Kind of work, by which models' shares of right answers may differ.
    category: str = ""
    # Of the upright picture. Unset: 1024, and models of which a median of input tokens is known read that many.
    width: int | None = Field(default=None, ge=1, le=65_535)
    height: int | None = Field(default=None, ge=1, le=65_535)
    deadline_s: float = Field(default=60.0, gt=0, le=3600)
    # Calls with the same name have the same picture; empty: a picture of its own.
    image: str = ""
    # What the caller wished; empty: nothing.
    route: str = ""
    priority: Literal["", "quality", "balanced", "cost"] = ""
    max_cost_nano_usd: int | None = Field(default=None, ge=0)
    urgency: Literal["", "interactive", "bulk"] = ""

    @field_validator("rpc")
    @classmethod
    def _there_is_one(cls, rpc: str) -> str:
        if rpc not in _RPCS:
            raise ValueError(f"there is no {rpc[:40]!r}; there are {', '.join(_RPCS)}")
        return rpc


def read(path: Path) -> list[Call]:
    """Reads a trace, a JSON object a line, and puts it in the order of time; blank lines count for nothing.

    Raises `BadTrace` with every line that is wrong, and OSError.
    """
    calls: list[Call] = []
    problems: list[str] = []
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        if not line.strip():
            continue
        try:
            calls.append(Call.model_validate_json(line))
        except ValidationError as exc:
            errors = exc.errors(include_input=False, include_url=False)
            problems += (
                f"line {number}: {problem}" for error in errors for problem in lines(error, Call, what="field")
            )
    if not calls and not problems:
        problems = ["there is no call in it"]
    if problems:
        raise BadTrace(problems)
    return sorted(calls, key=lambda call: call.at_s)


def synthetic(calls: int, *, per_s: float, seed: int, mix: Mapping[str, int] = SEED_MIX) -> list[Call]:
    """Makes *calls* of VQA that come at random times, *per_s* of them a second on average (a Poisson process).

    Their categories are those of *mix* over and over, each time in another order.
    """
    random = Random(f"{seed}:trace")  # noqa: S311  it keeps nothing secret
    deck: list[str] = []
    at_s = 0.0
    made = []
    for _ in range(calls):
        if not deck:
            deck = [category for category, count in mix.items() for _ in range(count)]
            random.shuffle(deck)
        at_s += random.expovariate(per_s)
        made.append(Call(at_s=at_s, category=deck.pop()))
    return made
