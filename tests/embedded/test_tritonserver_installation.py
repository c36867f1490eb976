"""Where Triton cannot run, one sentence says why, and what to do instead."""

from __future__ import annotations

import os
import platform
import sys
from importlib import metadata
from pathlib import Path

import pytest

from gateway.tritonserver import TritonUnavailable, installation, model_repository

INSTEAD = (
    "; run it as a container instead (nvcr.io/nvidia/tritonserver, with this project's triton_repo) and name its "
    "address in the settings."
)
MINOR = f"{sys.version_info.major}.{sys.version_info.minor}"


def why():
    with pytest.raises(TritonUnavailable) as caught:
        installation.find()
    message = str(caught.value)
    assert message.startswith("Triton cannot be started here because ")
    assert message.endswith(INSTEAD)
    return message.removeprefix("Triton cannot be started here because ").removesuffix(INSTEAD)


@pytest.fixture
def linux(monkeypatch):
    """A machine on which Triton would run, but for what the test takes away."""
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(os, "confstr", lambda _: "glibc 2.36", raising=False)
    monkeypatch.setattr(metadata, "version", lambda _: "1.26.4")
    return monkeypatch


def test_other_systems_are_named(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    monkeypatch.setattr(platform, "machine", lambda: "arm64")

    assert why() == "it is built for Linux on x86-64, not for Darwin on arm64"


def test_an_old_glibc_is_named(linux):
    linux.setattr(os, "confstr", lambda _: "glibc 2.31")

    assert why() == "it needs glibc 2.35 and this system has 2.31"


def test_another_c_library_is_told(linux):
    def confstr(_):
        raise ValueError

    linux.setattr(os, "confstr", confstr)

    assert why() == "this system's C library is not glibc"


def test_numpy_2_is_told(linux):
    linux.setattr(metadata, "version", lambda _: "2.4.6")

    assert why() == "its Python backend dies under numpy 2.4.6 (pip install 'numpy<2')"


def test_a_missing_wheel_is_told(linux):
    linux.setattr(installation, "find_spec", lambda _: None)

    assert why() == "the wheel nvidia-pytriton is not installed (pip install 'vision-gateway[embedded]')"


def test_a_missing_libpython_is_told(linux, tmp_path):
    linux.setattr(sys, "base_prefix", str(tmp_path))
    linux.setattr(installation, "get_config_var", lambda _: None)
    linux.setattr(installation, "_SYSTEM_LIBRARIES", ())

    assert why() == (f"libpython{MINOR}.so.1.0 is missing (on Debian and Ubuntu: apt install libpython{MINOR})")


def test_the_running_pythons_own_library_comes_first(linux, tmp_path):
    own, systems = tmp_path / "own", tmp_path / "systems"
    for folder in (own / "lib", systems):
        folder.mkdir(parents=True)
        (folder / f"libpython{MINOR}.so.1.0").touch()
    linux.setattr(sys, "base_prefix", str(own))
    linux.setattr(installation, "_SYSTEM_LIBRARIES", (str(systems),))

    assert installation.find().libpython.parent == own / "lib"


def test_parts_without_a_run_bit_are_mended_in_a_copy(linux, tmp_path):
    package = tmp_path / "site-packages/pytriton"
    server = package / "tritonserver/bin/tritonserver"
    stub = package / f"tritonserver/python_backend_stubs/{MINOR}/triton_python_backend_stub"
    for part in (server, stub):
        part.parent.mkdir(parents=True)
        part.write_bytes(b"ELF")
        part.chmod(0o644)
    (package / "tritonserver/backends/python").mkdir(parents=True)
    (package.parent / "nvidia_pytriton.libs").mkdir()
    linux.setattr(installation, "_libpython", lambda: tmp_path / "libpython.so")
    spec = type("Spec", (), {"submodule_search_locations": [str(package)]})
    linux.setattr(installation, "find_spec", lambda _: spec)
    private = tmp_path / "private"

    layout = installation.lay_out(installation.find(), private, model_repository(), ("embedded",))

    placed = [layout.server, layout.backends / "python/triton_python_backend_stub"]
    assert [(os.access(part, os.X_OK), part.is_symlink(), part.read_bytes()) for part in placed] == [
        (True, False, b"ELF")
    ] * 2
    assert not os.access(server, os.X_OK)


def test_our_own_models_are_found_beside_the_package():
    assert (model_repository() / "embedded/config.pbtxt").is_file()


def test_our_own_models_are_found_inside_an_installed_package(monkeypatch, tmp_path):
    installed = tmp_path / "gateway/_triton_repo"
    installed.mkdir(parents=True)
    monkeypatch.setattr("gateway.tritonserver.launcher.__file__", str(tmp_path / "gateway/tritonserver/launcher.py"))

    assert model_repository() == Path(installed)
