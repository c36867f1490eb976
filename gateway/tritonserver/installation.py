"""Finds the Triton that comes in the wheel `nvidia-pytriton`, and lays it out so that it runs.

The wheel's own Python package is not imported: only its binary, its libraries and its Python backend are used.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from sysconfig import get_config_var

# The wheel is built for it (its tag is manylinux_2_35).
_OLDEST_GLIBC = (2, 35)
_SYSTEM_LIBRARIES = ("/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/local/lib", "/usr/lib", "/lib64")
_MINOR = f"{sys.version_info.major}.{sys.version_info.minor}"


class TritonUnavailable(RuntimeError):
    """Triton cannot be started on this machine; the message is one sentence that says why, and what to do instead."""

    def __init__(self, why: str) -> None:
        """*why* follows `because`."""
        super().__init__(
            f"Triton cannot be started here because {why}; run it as a container instead "
            "(nvcr.io/nvidia/tritonserver, with this project's triton_repo) and name its address in the settings."
        )


@dataclass(frozen=True, slots=True)
class Distribution:
    """The parts of an installed Triton: *libpython* is what its Python backend links to."""

    server: Path
    libraries: Path
    backend: Path
    stub: Path
    libpython: Path


@dataclass(frozen=True, slots=True)
class Layout:
    """What a Triton process is started with."""

    server: Path
    backends: Path
    repository: Path
    environment: dict[str, str]


def find() -> Distribution:
    """Finds the parts of Triton, or raises `TritonUnavailable`."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        raise TritonUnavailable(f"it is built for Linux on x86-64, not for {platform.system()} on {platform.machine()}")
    _check_glibc()
    _check_numpy()
    spec = find_spec("pytriton")
    if spec is None or not spec.submodule_search_locations:
        raise TritonUnavailable("the wheel nvidia-pytriton is not installed (pip install 'vision-gateway[embedded]')")
    package = Path(spec.submodule_search_locations[0])
    root = package / "tritonserver"
    found = Distribution(
        server=root / "bin/tritonserver",
        libraries=package.parent / "nvidia_pytriton.libs",
        backend=root / "backends/python",
        stub=root / "python_backend_stubs" / _MINOR / "triton_python_backend_stub",
        libpython=_libpython(),
    )
    if not found.stub.is_file():
        raise TritonUnavailable(f"its Python backend is not built for Python {_MINOR}")
    for part in (found.server, found.libraries, found.backend):
        if not part.exists():
            raise TritonUnavailable(f"the installed nvidia-pytriton has no {part.name}")
    return found


def lay_out(found: Distribution, folder: Path, repository: Path, models: tuple[str, ...]) -> Layout:
    """Puts the parts together in *folder*, which is private and empty, with just *models* of *repository*."""
    python_backend = folder / "backends/python"
    models_served = folder / "repository"
    for new in (python_backend, models_served, folder / "bin", folder / "lib"):
        new.mkdir(parents=True)
    for part in ("libtriton_python.so", "triton_python_backend_utils.py"):
        (python_backend / part).symlink_to(found.backend / part)
    _place(found.stub, python_backend / found.stub.name)
    _place(found.server, folder / "bin" / found.server.name)
    (folder / "lib" / found.libpython.name).symlink_to(found.libpython)
    for model in models:
        if not (repository / model / "config.pbtxt").is_file():
            raise FileNotFoundError(f"there is no model {model} in {repository}")
        (models_served / model).symlink_to((repository / model).resolve())
    return Layout(folder / "bin" / found.server.name, folder / "backends", models_served, _environment(found, folder))


def _environment(found: Distribution, folder: Path) -> dict[str, str]:
    """Gives Triton what it needs and nothing else: no API key of ours, no library path of others."""
    # The Python backend takes for its interpreter the first `python3` of the path, and with it that one's packages.
    if sys.prefix == sys.base_prefix:
        (folder / "bin/python3").symlink_to(sys.executable)
        interpreter = folder / "bin"
    else:
        interpreter = Path(sys.prefix, "bin")
    passed = {name: os.environ[name] for name in _PASSED if name in os.environ}
    return {
        **_ALLOCATOR,
        **passed,
        "PATH": f"{interpreter}:/usr/local/bin:/usr/bin:/bin",
        "LD_LIBRARY_PATH": f"{found.libraries}:{folder / 'lib'}",
    }


_PASSED = ("HOME", "LANG", "LC_ALL", "LC_CTYPE", "TMPDIR", "TZ", "VISION_GATEWAY_MODEL_DIR")
# glibc otherwise keeps what large pictures took: 1046 MB after a page of 2000 px, against 788 MB with these, which cost
# no time (measured; lower thresholds slow the detector by a quarter).
_ALLOCATOR = {
    "MALLOC_ARENA_MAX": "2",
    "MALLOC_MMAP_THRESHOLD_": str(16 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(64 << 20),
}


def _place(source: Path, target: Path) -> None:
    # Some installers leave out the run bit; site-packages are not ours to mend.
    if os.access(source, os.X_OK):
        target.symlink_to(source)
    else:
        shutil.copyfile(source, target)
        target.chmod(0o700)


def _check_glibc() -> None:
    try:
        name, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").split()
        found = tuple(int(part) for part in version.split("."))
    except (OSError, ValueError):
        raise TritonUnavailable("this system's C library is not glibc") from None
    if found < _OLDEST_GLIBC:
        raise TritonUnavailable(f"it needs {name} 2.35 and this system has {version}")


def _check_numpy() -> None:
    try:
        version = metadata.version("numpy")
    except metadata.PackageNotFoundError:
        raise TritonUnavailable("numpy is not installed (pip install 'vision-gateway[embedded]')") from None
    if int(version.split(".")[0]) > 1:
        raise TritonUnavailable(f"its Python backend dies under numpy {version} (pip install 'numpy<2')")


def _libpython() -> Path:
    name = f"libpython{_MINOR}.so.1.0"
    own = (Path(sys.base_prefix, "lib"), Path(get_config_var("LIBDIR") or sys.base_prefix))
    for folder in (*own, *map(Path, _SYSTEM_LIBRARIES)):
        if (folder / name).is_file():
            return folder / name
    raise TritonUnavailable(f"{name} is missing (on Debian and Ubuntu: apt install libpython{_MINOR})")
