from __future__ import annotations

from gateway.compose.changes import changes, needs_restart
from gateway.settings import load

MODEL = {"kind": "fake", "profile": "gemma4"}
MODELS = {"one": MODEL, "two": MODEL}


def test_changes_are_named_by_their_path_and_whole_tables_once():
    before = load(models=MODELS, principals={"anna": {"requests_per_s": 1}})
    after = load(models={"one": {**MODEL, "delay_s": 1}, "three": MODEL}, principals={"anna": {"requests_per_s": 2}})

    assert changes(before, after) == {
        "models.one.delay_s": "added",
        "models.three": "added",
        "models.two": "removed",
        "principals.anna.requests_per_s": "changed",
        "routes.default.models": "changed",
    }


def test_another_order_of_the_models_is_another_default_route():
    before, after = load(models=MODELS), load(models=dict(reversed(MODELS.items())))

    assert changes(before, after) == {"routes.default.models": "changed"}


def test_values_are_not_among_what_is_told():
    before = load(models=MODELS, ledger={"url": "off"})
    after = load(models=MODELS, ledger={"url": "postgresql://user:secret@host/db"})

    assert changes(before, after) == {"ledger.url": "changed"}


def test_what_is_opened_once_needs_a_restart():
    before = load(models=MODELS)
    after = load(models=MODELS, server={"http_address": "[::]:1", "log_level": "ERROR"}, cache={"store": "memory"})

    assert needs_restart(changes(before, after), before, after) == [
        "server.http_address needs a restart",
        "cache.store needs a restart",
    ]


def test_images_may_be_held_to_less_than_the_process_began_with_and_to_as_much_again():
    first, less, more = (load(models=MODELS, images={"max_mib": mib}) for mib in (8, 4, 9))

    assert needs_restart(changes(first, less), first, less) == []
    assert needs_restart(changes(less, first), first, first) == []
    assert needs_restart(changes(less, more), first, more) == [
        "images.max_mib above 8, which this process began with, needs a restart"
    ]


def test_whether_there_is_tls_needs_a_restart_and_its_files_do_not():
    tls = {"cert": "a.crt", "key": "a.key"}
    plain, secured, renewed, required = (
        load(models=MODELS, server={"tls": each})
        for each in (None, tls, {**tls, "cert": "b.crt"}, {**tls, "client_ca": "ca", "client_auth": "require"})
    )

    assert needs_restart(changes(plain, secured), plain, secured) == ["server.tls needs a restart"]
    assert needs_restart(changes(secured, plain), secured, plain) == ["server.tls needs a restart"]
    assert needs_restart(changes(secured, renewed), secured, renewed) == []
    assert needs_restart(changes(secured, required), secured, required) == ["server.tls.client_auth needs a restart"]
