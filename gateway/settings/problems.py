"""What is wrong with settings, a line for each problem."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, get_args

from pydantic import BaseModel

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pydantic_core import ErrorDetails


def lines(
    error: ErrorDetails, table: type[BaseModel], *, others: Iterable[str] = (), what: str = "setting"
) -> list[str]:
    """Says what pydantic found wrong in *table*, and where.

    *others* are names that stand beside those of *table*; *what* is the word for one.
    """
    path, tables = _tables_at(table, error["loc"][:-1])
    where = ".".join(str(part) for part in (*path, *error["loc"][-1:]))
    if error["type"] == "extra_forbidden":
        known = {name for each in tables for name in each.model_fields}
        return [f"{where}: {_no_such(what, str(error['loc'][-1]), known.union(others))}"]
    message = error["msg"].removeprefix("Value error, ")
    return [f"{where}: {line}" if where else line for line in message.splitlines()]


def _no_such(what: str, name: str, known: Iterable[str]) -> str:
    near = get_close_matches(name, sorted(known), n=1)
    return f"there is no such {what}; did you mean {near[0]}?" if near else f"there is no such {what}"


def _tables_at(table: type[BaseModel], path: tuple[int | str, ...]) -> tuple[list[int | str], set[type[BaseModel]]]:
    """Gives *path* as a file has it, and the tables that may be there.

    pydantic's has the name of the table too where a value may have several types.
    """
    kept: list[int | str] = []
    found = {table}
    for part in path:
        if named := {each for each in found if each.__name__ == part}:
            found = named
            continue
        kept.append(part)
        fields = [each.model_fields[str(part)] for each in found if str(part) in each.model_fields]
        # Otherwise it is a key of a dict.
        found = {each for field in fields for each in _tables_in(field.annotation)} or found
    return kept, found


def _tables_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _tables_in(part)
