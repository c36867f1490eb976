"""What one principal may do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.errors import Forbidden

if TYPE_CHECKING:
    from collections.abc import Collection

_STREAM = "Stream"


@dataclass(frozen=True, slots=True)
class Rights:
    """What one principal may do; None is no bound.

    *rpcs* are names of the proto; *routes* are in the order in which they are followed where a call names none.
    *max_image_bytes* is of one file. With *local_only* every call is as if it had asked for that itself.
    """

    rpcs: frozenset[str] | None = None
    models: frozenset[str] | None = None
    routes: tuple[str, ...] | None = None
    local_only: bool = False
    max_image_bytes: int | None = None

    def check_rpc(self, rpc: str) -> None:
        """Raises `Forbidden` unless *rpc* may be called."""
        if self.rpcs is not None and rpc not in self.rpcs:
            raise _forbidden("rpcs", f"you may not call {rpc}", self.rpcs)

    def check_task(self, rpc: str) -> None:
        """Raises `Forbidden` unless the task of *rpc* may be asked: by itself, streamed, or in a call that holds it."""
        if self.rpcs is not None and not {rpc, f"{_STREAM}{rpc}"} & self.rpcs:
            raise _forbidden("rpcs", f"you may not ask for {rpc}", self.rpcs)

    def check_image(self, byte_count: int, field: str) -> None:
        """Raises `Forbidden` when the image at the path *field* has more bytes than it may."""
        most = self.max_image_bytes
        if most is not None and byte_count > most:
            raise Forbidden(
                f"{field}: has {byte_count} bytes; you may send images of at most {most}",
                metadata={"rule": "max_image_mib", "field": field},
            )

    def may_ask(self, model: str) -> bool:
        """Tells whether *model* may answer."""
        return self.models is None or model in self.models

    def check_model(self, model: str) -> None:
        """Raises `Forbidden` unless *model* may be named."""
        if self.models is not None and model not in self.models:
            raise _forbidden("models", f"you may not ask the model {model!r}", self.models)

    def may_follow(self, route: str) -> bool:
        """Tells whether *route* may be followed."""
        return self.routes is None or route in self.routes

    def check_route(self, route: str) -> None:
        """Raises `Forbidden` unless *route* may be named."""
        if self.routes is not None and route not in self.routes:
            raise _forbidden("routes", f"you may not follow the route {route!r}", self.routes)


def _forbidden(rule: str, message: str, allowed: Collection[str]) -> Forbidden:
    return Forbidden(f"{message}, only: {', '.join(sorted(allowed))}", metadata={"rule": rule})
