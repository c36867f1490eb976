"""Settings of principals, budgets and the door."""

from __future__ import annotations

import pytest

from gateway.settings import SettingsError, load

MODELS = {"m": {"kind": "fake", "profile": "gemma4"}}
JWT = {"issuer": "i", "audience": ["a"], "jwks_file": "jwks.json"}
TLS = {"cert": "tls.crt", "key": "tls.key"}


def test_a_budget_is_exact_to_the_nano_dollar():
    principals = {"anna": {"budget": {"hour": "1.00", "month": "0.000000001"}}}

    budget = load(models=MODELS, principals=principals).principals["anna"].budget

    assert budget.nano_usd == {"hour": 1_000_000_000, "month": 1}


@pytest.mark.parametrize("usd", ["-1", "a lot", "NaN", "0.0000000001", "9000001", "Infinity"])
def test_a_budget_that_is_no_exact_sum_is_refused(usd):
    with pytest.raises(SettingsError) as caught:
        load(models=MODELS, principals={"anna": {"budget": {"day": usd}}})

    assert [problem.split(":")[0] for problem in caught.value.problems] == ["principals.anna.budget.day"]


@pytest.mark.parametrize(
    ("tables", "problem"),
    [
        ({"budgets": {"store": "redis+secret@host"}}, "budgets.store: must be sqlite:///PATH or redis://HOST:PORT/0"),
        (
            {"principals": {"a": {"key_sha256": ["0" * 64]}, "b": {"key_sha256": ["0" * 64]}}},
            "principals: the same key_sha256 is there twice",
        ),
        (
            {"principals": {"anonymous": {"key_sha256": ["0" * 64]}}},
            "principals.anonymous.key_sha256: whoever has a credential is not anonymous",
        ),
        (
            {"principals": {"shadow": {"subjects": ["s"]}}, "jwt": JWT},
            "principals.shadow.subjects: nobody calls as the gateway's own shadow calls do",
        ),
        (
            {"principals": {"a": {"subjects": ["s"]}, "b": {"subjects": ["s"]}}, "jwt": JWT},
            "principals: the same subjects is there twice",
        ),
        ({"principals": {"a": {"subjects": ["s"]}}}, "principals: subjects are of no use without [jwt]"),
        (
            {"principals": {"a": {"san": ["a.example"]}}, "server": {"tls": TLS}},
            "principals: san is of no use without a client_ca in [server.tls]",
        ),
        ({"principals": {"a": {"models": ["n"]}}}, "principals.a.models names 'n', which is not there"),
        ({"principals": {"a": {"routes": ["r"]}}}, "principals.a.routes names 'r', which is not there"),
        ({"server": {"metrics_principals": ["a"]}}, "server.metrics_principals names 'a', which is not there"),
        (
            {"server": {"tls": {**TLS, "client_auth": "require"}}},
            'server.tls: client_ca: says who signs the certificates that client_auth = "require" asks for',
        ),
        (
            {"server": {"tls": {**TLS, "client_ca": "ca.pem"}}},
            'server.tls: client_ca: is of no use without client_auth = "require"',
        ),
    ],
)
def test_what_cannot_be_meant_of_principals_and_the_door_is_refused(tables, problem):
    with pytest.raises(SettingsError) as caught:
        load(models=MODELS, **tables)

    assert caught.value.problems == [problem]


@pytest.mark.parametrize("right", ["rpcs", "models", "routes"])
def test_a_right_to_nothing_is_refused(right):
    with pytest.raises(SettingsError) as caught:
        load(models=MODELS, principals={"a": {right: []}})

    assert [problem.split(":")[0] for problem in caught.value.problems] == [f"principals.a.{right}"]


@pytest.mark.parametrize("algorithm", ["none", "HS256", "RS1"])
def test_tokens_are_signed_with_keys_that_are_not_shared(algorithm):
    with pytest.raises(SettingsError) as caught:
        load(models=MODELS, jwt={**JWT, "algorithms": [algorithm]})

    assert caught.value.problems[0].startswith("jwt.algorithms.0: ")


def test_the_store_of_budgets_is_not_shown_since_it_may_have_a_password_in_it():
    assert "secret" not in repr(load(models=MODELS, budgets={"store": "redis://:secret@host:6379/0"}))
