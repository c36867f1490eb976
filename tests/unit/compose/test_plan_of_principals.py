"""What principals may call are RPCs that there are."""

from __future__ import annotations

from gateway.compose.plan import check
from gateway.server.service import RPCS
from gateway.settings import load

MODELS = {"m": {"kind": "fake", "profile": "gemma4"}}


def test_an_rpc_that_does_not_exist_is_told_with_those_that_do():
    settings = load(models=MODELS, principals={"p": {"rpcs": ["Caption", "Capture", "ListModels"]}})

    assert check(settings) == [f"principals.p.rpcs: no RPC is named Capture; there are {', '.join(RPCS)}"]
