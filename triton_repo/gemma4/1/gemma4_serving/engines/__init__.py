"""One file per engine: the parameter `engine` of `config.pbtxt` names the module.

Each such module has `open_engine(options)`, a coroutine that loads the model and gives an `Engine`; it runs on the
event loop that the engine is used on afterwards. *options* are the settings of the engine, read from its file.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

    from PIL import Image


@dataclass(frozen=True, slots=True)
class Job:
    """One request, read and checked: decoded RGB *images*, upright, stand before *user*.

    None leaves a knob to the engine. *max_tokens* bounds thoughts and answer together. *schema* is a JSON Schema that
    an engine with guided decoding holds the answer to, and another ignores. *image_token_budget* is one of 70, 140,
    280, 560 and 1120 soft tokens per image; None is the deployment's own.
    """

    request_id: str
    user: str
    images: tuple[Image.Image, ...]
    max_tokens: int
    system: str = ""
    schema: Mapping[str, Any] | None = None
    thinking: bool = False
    image_token_budget: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Piece:
    """What an engine has written since its last piece, control tokens included, and its counts so far.

    *finish_reason* is empty until the last piece, which has `stop` or `length` and the final counts.
    """

    text: str
    input_tokens: int
    output_tokens: int
    finish_reason: str = ""


class InvalidJobError(ValueError):
    """The engine cannot take this job, such as a schema that it cannot compile; the message is for the caller."""


class Engine(Protocol):
    """A loaded Gemma 4. Everything is called on one event loop."""

    name: str

    def generate(self, job: Job) -> AsyncGenerator[Piece, None]:
        """Yields pieces until one has a finish reason; closing the generator early aborts the job in the engine.

        Raises `InvalidJobError` before the first piece; whatever else it raises is a failure of the engine.
        """
        ...

    def effective_budget(self, asked: int | None) -> int:
        """Gives the soft tokens per image that the engine will use where *asked* were asked for."""
        ...

    async def is_ready(self) -> bool:
        """Tells whether the engine still works; takes at most a second."""
        ...

    async def close(self) -> None:
        """Frees the engine."""
        ...


async def open_engine(name: str, options: Mapping[str, Any]) -> Engine:
    """Loads the engine *name* with *options*; raises ModuleNotFoundError where its package is not installed."""
    opened: Engine = await import_module(f"{__name__}.{name}").open_engine(options)
    return opened
