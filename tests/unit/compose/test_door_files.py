"""What is wrong with the files of the door is found before anybody comes to it, and told without what is in them."""

from __future__ import annotations

import pytest

from gateway.compose import door
from gateway.settings import SettingsError, load
from tests.fixtures.pki import Authority, Issuer

MODELS = {"m": {"kind": "fake", "profile": "gemma4"}}


@pytest.fixture(scope="module")
def authority():
    return Authority()


@pytest.fixture
def settings(tmp_path, authority):
    """Settings of which everything is in order, and their files."""
    leaf = authority.server()
    files = {"cert": leaf.cert, "key": leaf.key, "client_ca": authority.pem, "jwks": Issuer().jwks.encode()}
    for name, text in files.items():
        (tmp_path / name).write_bytes(text)
    return load(
        models=MODELS,
        server={"tls": {**{name: tmp_path / name for name in ("cert", "key", "client_ca")}, "client_auth": "require"}},
        jwt={"issuer": "i", "audience": ["a"], "jwks_file": tmp_path / "jwks"},
    )


def problems(settings):
    with pytest.raises(SettingsError) as caught:
        door.read(settings)
    return caught.value.problems


def test_a_door_knows_each_of_its_files(settings, tmp_path):
    made = door.read(settings)

    assert made.files.keys() == {tmp_path / name for name in ("cert", "key", "client_ca", "jwks")}
    assert all(made.files.values())
    assert made.files == door.files(settings)


@pytest.mark.parametrize("name", ["cert", "key", "client_ca"])
def test_a_file_that_is_not_there_is_named_and_so_is_each_other_problem(settings, tmp_path, name):
    (tmp_path / name).unlink()
    (tmp_path / "jwks").write_text("{}")

    first, second = problems(settings)

    assert first == f"server.tls.{name}: {tmp_path / name}: No such file or directory"
    assert second.startswith(f"jwt.jwks_file: {tmp_path / 'jwks'} is not a JSON Web Key Set")


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("cert", "has no certificate in PEM"),
        ("key", "has no key in PEM, or one that needs a password"),
        ("client_ca", "server.tls: the files cannot be used"),
    ],
)
def test_a_file_that_holds_something_else_is_told(settings, tmp_path, name, problem):
    (tmp_path / name).write_text("secret words")

    (line,) = problems(settings)

    assert problem in line
    assert "secret words" not in line


def test_a_key_of_another_certificate_is_told(settings, tmp_path, authority):
    (tmp_path / "key").write_bytes(authority.server().key)

    assert problems(settings) == [
        f"server.tls.key: {tmp_path / 'key'} is not the key of the certificate in {tmp_path / 'cert'}"
    ]


@pytest.mark.parametrize(
    ("principals", "is_open"),
    [
        ({}, True),
        ({"anonymous": {}}, True),
        ({"anonymous": {}, "shadow": {}}, True),
        ({"anna": {}}, False),
        ({"anna": {"key_sha256": ["0" * 64]}}, False),
    ],
)
def test_the_door_is_open_while_nobody_is_named(principals, is_open):
    made = door.read(load(models=MODELS, principals=principals))

    assert made.identity._is_open is is_open


def test_with_an_issuer_of_tokens_the_door_is_shut(settings):
    assert not door.read(settings).identity._is_open
