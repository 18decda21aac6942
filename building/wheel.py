# SPDX-License-Identifier: Apache-2.0
"""Wheels: this checkout's own, and its dependencies, installed without running the target's pip."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from installer import install
from installer.destinations import SchemeDictionaryDestination
from installer.sources import WheelFile

from building import date
from building.process import run

#: Of a Python: major and minor.
Version = tuple[int, int]
#: The checkout this bench belongs to.
CHECKOUT = Path(__file__).resolve().parents[1]
#: The Python of the ramdisk's Debian (12), which decides the wheels that fit.
TARGET_PYTHON = (3, 11)
VENV = Path("/opt/bareon")
#: Seconds for pip, which may have to fetch.
PIP_LIMIT = 900.0
#: What a wheel is made of.
SOURCES = ("bareon", "setup.cfg", "setup.py", "pyproject.toml", "requirements.txt", "README.rst")
#: And what of it is left out, as git says it.
UNWANTED = ":(exclude)bareon/tests"


def version() -> str:
    """Return the version that pbr gives the checkout as it stands."""
    script = "from pbr import packaging; print(packaging.get_version('bareon'))"
    return run([sys.executable, "-c", script], timeout=60, cwd=CHECKOUT).stdout.strip()


def source_files() -> list[Path]:
    """Return the files a wheel is made of, those not committed yet included.

    The package's own tests stay out: a ramdisk has no use for them.
    """
    listed = run(
        [
            *("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"),
            *("--", *SOURCES, UNWANTED),
        ],
        timeout=60,
        cwd=CHECKOUT,
    )
    files = (CHECKOUT / name for name in listed.stdout.split("\0") if name)
    return sorted(path for path in files if path.is_file())


def build_own(target: Path, built: int) -> Path:
    """Build this checkout's wheel into ``target`` and return its path; ``built`` is its date, in seconds since 1970.

    It is built from a copy: building in place would leave ``build/`` behind, from which files that
    were since deleted come back. The copy is a new git repository because pbr takes the list of
    data files from git, and would leave out what is not committed.
    """
    with tempfile.TemporaryDirectory(prefix="bareon-wheel-") as place:
        copy = Path(place)
        for path in source_files():
            there = copy / path.relative_to(CHECKOUT)
            there.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, there)
        for command in (["init", "--quiet"], ["add", "--all"]):
            run(["git", *command], timeout=60, cwd=copy)
        environment = date.environment(built) | {"PBR_VERSION": version()}
        run(
            [*_pip(), "wheel", "--no-deps", "--wheel-dir", target, copy],
            timeout=PIP_LIMIT,
            env=environment,
        )
    (wheel,) = target.glob("bareon-*.whl")
    return wheel


def site_packages(version: Version = TARGET_PYTHON) -> Path:
    """Return the folder of the virtual environment that a Python of this version looks for packages in."""
    return VENV / "lib" / f"python{version[0]}.{version[1]}" / "site-packages"


def download(
    requirements: Path, target: Path, version: Version = TARGET_PYTHON, platforms: Sequence[str] = ()
) -> list[Path]:
    """Fetch wheels of all that ``requirements`` names, for a Python of this version.

    :param platforms: what compiled ones may be for, as pip names it; without any, this machine's
    """
    python = interpreter(version)
    if python is None:
        # Without such an interpreter pip judges the environment markers by its own version.
        choice = ["--python-version", "".join(map(str, version)), "--implementation", "cp"]
    else:
        choice = ["--python", str(python)]
    front = choice if python else []
    back = [] if python else choice
    back += [f"--platform={x}" for x in platforms]
    run(
        [
            *(*_pip(), *front, "download", *back, "--only-binary=:all:", "--quiet"),
            *("--dest", target, "--requirement", requirements),
        ],
        timeout=PIP_LIMIT,
    )
    return sorted(target.glob("*.whl"))


def interpreter(version: Version) -> Path | None:
    """Return a Python of this version on this machine, if there is one."""
    if sys.version_info[:2] == version:
        return Path(sys.executable)
    found = shutil.which(f"python{version[0]}.{version[1]}")
    if found and run([found, "-c", ""], timeout=60, check=False).exit_code == 0:  # none that only stands for one
        return Path(found)
    return None


def install_into(
    root: Path, wheels: Iterable[Path], version: Version = TARGET_PYTHON, *, compiled: bool = True
) -> None:
    """Install wheels into the virtual environment ``/opt/bareon`` of the tree ``root``, for a version of Python.

    :param compiled: as bytecode besides, where there is such a Python
    """
    site = str(site_packages(version))
    scheme = {
        "purelib": site,
        "platlib": site,
        "headers": str(VENV / "include"),
        "scripts": str(VENV / "bin"),
        "data": str(VENV),
    }
    for wheel in wheels:
        destination = SchemeDictionaryDestination(
            scheme,
            interpreter=str(VENV / "bin" / "python3"),
            script_kind="posix",
            destdir=str(root),
        )
        with WheelFile.open(wheel) as source:
            install(source=source, destination=destination, additional_metadata={})
    if compiled:
        _precompile(root, version)


def _precompile(root: Path, version: Version) -> None:
    """Compile to bytecode: in a ramdisk it would be done anew, slowly, after every boot."""
    python = interpreter(version)
    if python is None:
        return
    tree = root / site_packages(version).relative_to("/")
    # Unchecked hashes: no look at the source's time stamp, which an archive may not keep.
    run(
        [
            *(python, "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash"),
            *("-s", root, "-p", "/", tree),
        ],
        timeout=600,
    )


def _pip() -> list[str]:
    return [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input"]
