# SPDX-License-Identifier: Apache-2.0
"""Debian packages of bareon, for systems that run: ``python -m building.package [--output DIR] [RELEASE …]``.

A package has bareon and its libraries in a virtual environment of its own, /opt/bareon, and takes nothing but the
release's Python of the system. The libraries have parts that are compiled for one version of Python, so there is a
package for each release. dpkg-deb(1) makes it of a tree; the same sources give the same bytes.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from building import date, wheel
from building.process import ProgramError, run

ARCHITECTURE = "amd64"
#: The commands that are of use in a system that runs; bareon-boot is in each image of several by itself.
COMMANDS = (
    *("bareon-provision", "bareon-partition", "bareon-configdrive", "bareon-copyimage", "bareon-bootloader"),
    *("bareon-reboot", "bareon-verify", "bareon-data-validator", "bareon-report"),
)
#: What a run may call by its input; bareon names those that are missing. The rest is essential in Debian.
RECOMMENDED = (
    *("bubblewrap", "fdisk", "libseccomp2", "parted", "rsync", "udev"),
    *("e2fsprogs", "xfsprogs", "btrfs-progs", "dosfstools", "lvm2", "mdadm", "cryptsetup-bin"),
)
SUGGESTED = ("gpgv", "multipath-tools", "smartmontools", "squashfs-tools-ng", "thin-provisioning-tools")
PLACE_OF_SETTINGS = "etc/bareon/bareon.conf"
#: Seconds for dpkg-deb on a slow machine.
PACK_LIMIT = 600.0

#: Bytecode is made where it is used, so that the bytes of the package do not depend on which Pythons build it.
_POSTINST = """\
#!/bin/sh
set -e
if [ "$1" = configure ]; then python3 -m compileall -q /opt/bareon/lib || true; fi
"""
_PRERM = """\
#!/bin/sh
set -e
find /opt/bareon -name __pycache__ -type d -prune -exec rm -r {} +
"""


@dataclass(frozen=True)
class Release:
    """A release of Debian: the version of its Python, and what versions of packages for it end with."""

    python: wheel.Version
    suffix: str


RELEASES = {"bookworm": Release((3, 11), "deb12"), "trixie": Release((3, 13), "deb13")}


def debian_version(version: str, suffix: str) -> str:
    """Return the version of a package: what comes before a release for Python, as ``1.0.dev5``, does for Debian."""
    public, _, local = version.partition("+")
    before = re.sub(r"\.?(dev|a|b|rc)(?=[0-9])", r"~\1", public)
    return f"{before}{f'+{local}' if local else ''}+{suffix}"


def control(release: Release, version: str, size: int) -> str:
    """Return the file ``control`` of a package that takes ``size`` bytes when it is installed."""
    major, minor = release.python
    depends = f"python3 (>= {major}.{minor}~), python3 (<< {major}.{minor + 1}), libudev1"
    return f"""\
Package: bareon
Version: {version}
Architecture: {ARCHITECTURE}
Maintainer: The bareon developers
Installed-Size: {(size + 1023) // 1024}
Depends: {depends}
Recommends: {", ".join(sorted(RECOMMENDED))}
Suggests: {", ".join(SUGGESTED)}
Section: admin
Priority: optional
Description: puts operating systems onto bare metal
 bareon-provision in a system that runs brings another image of the node up to
 date, or adds one; bareon-verify compares the node with its document. What it
 calls is named where it is missing.
"""


def lay_out(tree: Path, wheels: Sequence[Path], release: Release, version: str) -> None:
    """Fill an empty folder with all that a package has, bareon and its libraries from ``wheels``."""
    wheel.install_into(tree, wheels, release.python, compiled=False)
    place = tree / wheel.VENV.relative_to("/")
    major, minor = release.python
    settings = {"home": "/usr/bin", "include-system-site-packages": "false", "version": f"{major}.{minor}"}
    (place / "pyvenv.cfg").write_text("".join(f"{name} = {value}\n" for name, value in settings.items()))
    for name in ("python", "python3"):
        (place / "bin" / name).symlink_to("/usr/bin/python3")
    (tree / "usr/bin").mkdir(parents=True)
    for name in COMMANDS:
        (tree / "usr/bin" / name).symlink_to(wheel.VENV / "bin" / name)
    _copy(tree / PLACE_OF_SETTINGS, wheel.CHECKOUT / PLACE_OF_SETTINGS)
    _copy(tree / "usr/share/doc/bareon/copyright", wheel.CHECKOUT / "LICENSE")
    size = sum(x.lstat().st_size for x in tree.rglob("*") if not x.is_dir())
    files = {"control": control(release, version, size), "conffiles": f"/{PLACE_OF_SETTINGS}\n"}
    _write(tree / "DEBIAN", {**files, "postinst": _POSTINST, "prerm": _PRERM})


def _copy(target: Path, source: Path) -> None:
    target.parent.mkdir(parents=True)
    shutil.copyfile(source, target)


def _write(folder: Path, files: Mapping[str, str]) -> None:
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755 if text.startswith("#!") else 0o644)


def pack(tree: Path, target: Path, built: int) -> None:
    """Write the package of a tree; ``built`` is the date of all in it, in seconds since 1970.

    :raises ProgramError: with dpkg-deb's own last words
    """
    for path in (tree, *tree.rglob("*")):
        if not path.is_symlink():  # whatever the umask is
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
        os.utime(path, (built, built), follow_symlinks=False)
    # With several threads the bytes depend on their number.
    form = ("--root-owner-group", "-Zzstd", "--threads-max=1")
    run(["dpkg-deb", *form, "--build", tree, target], timeout=PACK_LIMIT, env=date.environment(built))


def build(name: str, target: Path) -> Path:
    """Build the package of the checkout as it stands for a release into a folder, and return its path.

    :raises ProgramError: when a part cannot be fetched or built
    """
    release, built = RELEASES[name], date.epoch(wheel.CHECKOUT)
    version = debian_version(wheel.version(), release.suffix)
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bareon-package-") as place:
        scratch, tree = Path(place) / "wheels", Path(place) / "tree"
        own = wheel.build_own(Path(place) / "own", built)
        wheels = wheel.download(wheel.CHECKOUT / "requirements.txt", scratch, release.python)
        tree.mkdir()
        lay_out(tree, [*wheels, own], release, version)
        package = target / f"bareon_{version}_{ARCHITECTURE}.deb"
        pack(tree, package, built)
    return package


def main(argv: Sequence[str] | None = None) -> int:
    """Build, and say where the files are."""
    parser = argparse.ArgumentParser(prog="building.package", description="Build the Debian packages of bareon.")
    parser.add_argument("--output", type=Path, default=Path("dist"), help="the directory; default: dist")
    parser.add_argument("releases", nargs="*", metavar="RELEASE", help=f"of {_listed(RELEASES)}; default: all")
    arguments = parser.parse_args(argv)
    if strange := [x for x in arguments.releases if x not in RELEASES]:
        parser.error(f"no release that is known: {_listed(strange)}")
    try:
        for name in arguments.releases or RELEASES:
            print(build(name, arguments.output), flush=True)
    except (OSError, ProgramError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)


if __name__ == "__main__":
    sys.exit(main())
