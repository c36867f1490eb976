"""Which models can be asked where no route is followed, as for a comparison."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.errors import Forbidden, UnknownModel, UnsupportedByModel
from gateway.rights import Rights


@pytest.fixture
def able(make_route, ask):
    """Says who is able among *models*, for a principal that may ask only *may*."""

    def tell(models, *named, may=None, **options):
        rights = Rights(models=None if may is None else frozenset(may))
        return make_route(models).able(replace(ask(**options), rights=rights), named)

    return tell


@pytest.fixture
def models(candidate):
    return [candidate("here"), candidate("there", local=False)]


def test_those_that_are_named_are_asked_and_else_all_that_may_be(able, models):
    assert able(models, "there") == ["there"]
    assert able(models) == ["here", "there"]
    assert able(models, may=["there"]) == ["there"]
    assert able(models, local_only=True) == ["here"]


@pytest.mark.parametrize("local_only", [False, True])
def test_a_principal_that_may_ask_nobody_is_told_so_whatever_else_it_asks(able, models, local_only):
    with pytest.raises(Forbidden, match="no model is configured that you may ask") as caught:
        able(models, may=["gone"], local_only=local_only)

    assert caught.value.metadata == {"rule": "models"}


def test_a_call_kept_local_is_told_where_there_is_no_local_model(able, models):
    with pytest.raises(UnsupportedByModel, match="no local model is configured, and local_only"):
        able(models[1:], may=["there"], local_only=True)


def test_a_call_kept_local_is_told_where_none_that_it_may_ask_is_local(able, models):
    with pytest.raises(UnsupportedByModel, match="none of the models that you may ask is local, and local_only"):
        able(models, may=["there"], local_only=True)


def test_a_name_that_is_not_there_or_may_not_be_asked_is_refused(able, models):
    with pytest.raises(UnknownModel):
        able(models, "gone")
    with pytest.raises(Forbidden):
        able(models, "here", may=["there"])
