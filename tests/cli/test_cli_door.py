"""What people are told to type to come in."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.cli.door import ways_in
from gateway.settings import TlsSettings

FILES = {"cert": Path("tls.crt"), "key": Path("tls.key")}


@pytest.mark.parametrize(
    ("tls", "ours", "theirs"),
    [
        (None, "", "-plaintext"),
        (TlsSettings(**FILES), " --ca CA.crt", "-cacert CA.crt"),
        (
            TlsSettings(**FILES, client_ca=Path("ca.crt"), client_auth="require"),
            " --ca CA.crt --cert ME.crt --key ME.key",
            "-cacert CA.crt -cert ME.crt -key ME.key",
        ),
    ],
    ids=["plain text", "TLS", "client certificates"],
)
def test_the_commands_that_are_told_fit_the_door(tls, ours, theirs):
    assert ways_in("vision-gateway", "localhost:50051", tls) == (
        f"vision-gateway caption PHOTO.jpg --address localhost:50051{ours}",
        f"grpcurl {theirs} localhost:50051 list",
    )
