# SPDX-License-Identifier: Apache-2.0
"""The Debian package: what is in it, and that it is the same bytes each time. dpkg's own programs look at it."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

from building import package
from building.package import COMMANDS, RELEASES, debian_version

BUILT = 1_700_000_000
pytestmark = pytest.mark.skipif(not shutil.which("dpkg-deb"), reason="the programs of dpkg are not here")


def _said(*argv: str | Path) -> str:
    return subprocess.run([*map(str, argv)], check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize(
    ("version", "wanted"),
    [
        ("1.2.3", "1.2.3+deb12"),
        ("1.2.3.dev45", "1.2.3~dev45+deb12"),
        ("1.2.0rc1", "1.2.0~rc1+deb12"),
        ("1.2.0a1.dev7", "1.2.0~a1~dev7+deb12"),
        ("1.2.3+local.1", "1.2.3+local.1+deb12"),
    ],
)
def test_versions(version: str, wanted: str) -> None:
    assert debian_version(version, "deb12") == wanted


def test_versions_are_in_their_order() -> None:
    """What Python has before a release, Debian has before it, too; and a newer release of Debian above the older."""
    order = [debian_version(x, "deb12") for x in ("1.2.0.dev9", "1.2.0.dev10", "1.2.0", "1.2.1.dev1", "1.2.1")]
    order.append(debian_version("1.2.1", "deb13"))
    for older, newer in itertools.pairwise(order):
        assert subprocess.run(["dpkg", "--compare-versions", older, "lt", newer], check=False).returncode == 0


def _wheel(place: Path) -> Path:
    """A wheel that has the commands."""
    found = place / "bareon-1-py3-none-any.whl"
    scripts = "".join(f"{name} = bareon:main\n" for name in (*COMMANDS, "bareon-unattended"))
    files = {
        "bareon/__init__.py": "def main():\n    print('here')\n",
        "bareon-1.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "bareon-1.dist-info/METADATA": "Metadata-Version: 2.1\nName: bareon\nVersion: 1\n",
        "bareon-1.dist-info/entry_points.txt": f"[console_scripts]\n{scripts}",
        "bareon-1.dist-info/RECORD": "",
    }
    with zipfile.ZipFile(found, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return found


def _package(place: Path, umask: int, name: str) -> Path:
    place.mkdir()
    before = os.umask(umask)
    try:
        tree = place / "tree"
        tree.mkdir()
        package.lay_out(tree, [_wheel(place)], RELEASES[name], "1+deb")
        package.pack(tree, place / "bareon.deb", BUILT)
    finally:
        os.umask(before)
    return place / "bareon.deb"


@pytest.mark.parametrize("name", RELEASES)
def test_the_same_sources_give_the_same_bytes(tmp_path: Path, name: str) -> None:
    first, second = _package(tmp_path / "a", 0o022, name), _package(tmp_path / "b", 0o077, name)
    assert first.read_bytes() == second.read_bytes()
    listed = [line.split(maxsplit=5) for line in _said("dpkg-deb", "--contents", first).splitlines()]
    assert {line[1] for line in listed} == {"root/root"}
    assert {line[0] for line in listed} <= {"drwxr-xr-x", "-rw-r--r--", "-rwxr-xr-x", "lrwxrwxrwx"}
    there = [line[5] for line in listed]
    links = [x for x in there if x.startswith("./usr/bin/") and " -> " in x]
    assert sorted(links) == sorted(f"./usr/bin/{x} -> /opt/bareon/bin/{x}" for x in COMMANDS)
    assert "./etc/bareon/bareon.conf" in there
    assert "./opt/bareon/bin/python3 -> /usr/bin/python3" in there
    major, minor = RELEASES[name].python
    assert f"./opt/bareon/lib/python{major}.{minor}/site-packages/bareon/__init__.py" in there
    assert _said("dpkg-deb", "--field", first, "Depends").startswith(f"python3 (>= {major}.{minor}~), python3 (<< ")
    script = _said("sh", "-c", f"dpkg-deb --fsys-tarfile {first} | tar -xO ./opt/bareon/bin/bareon-provision")
    assert script.startswith("#!/opt/bareon/bin/python3\n")
