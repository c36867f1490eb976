from __future__ import annotations

import pytest

from gateway.server.correlation import request_id


@pytest.mark.parametrize("given", ["a", "order 17/b", "~" * 128])
def test_what_the_caller_gives_is_kept(given):
    assert request_id([("user-agent", "x"), ("x-request-id", given)]) == given


@pytest.mark.parametrize("given", ["", "~" * 129, "a\nb", "é", b"bytes"], ids=repr)
def test_what_cannot_be_given_back_is_replaced(given):
    made = request_id([("x-request-id", given)])
    assert (made != given, len(made)) == (True, 32)


@pytest.mark.parametrize("metadata", [None, []])
def test_each_call_without_one_gets_its_own(metadata):
    assert request_id(metadata) != request_id(metadata)
