"""Who makes a call: the principal that its API key belongs to."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from gateway.errors import Unauthenticated

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

ANONYMOUS = "anonymous"
_HEADER = "authorization"
_SCHEME = "bearer "


class Identity:
    """Knows the keys by their SHA-256 alone; comparing hashes tells nobody how much of a guessed key was right."""

    def __init__(self, keys: Mapping[str, str], *, anonymous: bool = True) -> None:
        """*keys* gives the principal of each hash in lower-case hex; *anonymous* says whether calls need no key.

        Where there are no keys at all, every call is anonymous.
        """
        self._keys = dict(keys)
        self._anonymous = anonymous

    def principal(self, metadata: Iterable[tuple[str, str | bytes]] | None) -> str:
        """Gives the principal of a call; raises `Unauthenticated` for a key that is not known, or none where needed."""
        if not self._keys:
            return ANONYMOUS
        for name, value in metadata or ():
            if name == _HEADER:
                return self._of(value)
        if self._anonymous:
            return ANONYMOUS
        raise Unauthenticated("this gateway needs a key: send the metadata `authorization: Bearer KEY`")

    def _of(self, value: str | bytes) -> str:
        text = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
        key = text[len(_SCHEME) :].strip() if text.lower().startswith(_SCHEME) else ""
        found = self._keys.get(hashlib.sha256(key.encode()).hexdigest())
        if found is None:
            raise Unauthenticated("the key is not known; send the metadata `authorization: Bearer KEY`")
        return found
