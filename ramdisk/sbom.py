# SPDX-License-Identifier: Apache-2.0
"""The ramdisk's bill of materials: CycloneDX, of Debian's packages by debsbom, of wheels by cyclonedx-py."""

from __future__ import annotations

import hashlib
import json
import sys
import uuid
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from packaging.utils import parse_wheel_filename

from building.date import environment
from building.process import run

#: Seconds for one of the programs, many times what was measured.
LIMIT = 600.0
NAME = "bareon-ramdisk"
FILE = "ramdisk.cdx.json"


def of_debian(tree: Path, version: str, built: int, target: Path) -> None:
    """Write what is installed in a Debian tree, with digests, for which the lists of its archive must be there."""
    for path in (tree / "var/lib/apt/lists").glob("*-security_*_Packages"):
        _show_security(path)
    _debsbom("generate", *_document("debian", version, built), "--root", str(tree), target=target)


def _show_security(path: Path) -> None:
    """Link a list of Debian's security archive to where debsbom looks for it.

    The archive calls its components ``updates/main`` and so on: a folder for debsbom, and left out by apt.
    """
    front, behind = path.name.rsplit("-security_", 1)
    folder = path.with_name(f"{front}-security_updates")
    folder.mkdir(exist_ok=True)
    (folder / behind).symlink_to(path)


def lines(wheels: Iterable[Path]) -> str:
    """Return wheels as requirements of pip with their digests, one in each line."""
    found = []
    for path in wheels:
        name, version, _, _ = parse_wheel_filename(path.name)
        found.append(f"{name}=={version} --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}\n")
    return "".join(sorted(found))


def whole(debian: Path, requirements: str, version: str, built: int, scratch: Path, target: Path) -> None:
    """Write what a ramdisk consists of.

    :param debian: what :func:`of_debian` has written
    :param requirements: what :func:`lines` gives of all wheels, bareon's own included
    :param version: bareon's
    :param scratch: a directory for what lies between
    """
    listed, project, wheels = (scratch / x for x in ("requirements.txt", "pyproject.toml", "python.cdx.json"))
    listed.write_text(requirements)
    # All that is taken of it is the name of what the wheels are for.
    project.write_text('[project]\nname = "python"\nversion = "3"\n')
    run(
        [
            *(_program("cyclonedx-py"), "requirements", "--pyproject", project, "--output-reproducible"),
            *("--output-file", wheels, listed),
        ],
        timeout=LIMIT,
        env=environment(built),
    )
    _debsbom("merge", *_document(NAME, version, built), str(debian), str(wheels), target=target)


def packages(bill: Path) -> dict[str, str]:
    """Return version and SHA-256 of what a bill of materials has by its kind and name; of sources nothing.

    A digest that the programs have not found is ``-``.
    """
    return dict(sorted(_packages(json.loads(bill.read_text())["components"])))


def _packages(components: Iterable[dict[str, object]]) -> Iterator[tuple[str, str]]:
    for component in components:
        purl = str(component.get("purl", ""))
        digests = _digests(component)
        if purl and "arch=source" not in purl:
            kind = purl.partition("/")[0].removeprefix("pkg:")
            yield f"{kind}:{component['name']}", f"{component['version']} {' '.join(digests) or '-'}"


def _digests(part: object) -> list[str]:
    """The SHA-256 in a component, wherever in it the program has put them."""
    if isinstance(part, dict):
        if part.get("alg") == "SHA-256":
            return [str(part["content"])]
        return [digest for value in part.values() for digest in _digests(value)]
    return [digest for value in part for digest in _digests(value)] if isinstance(part, list) else []


def _document(name: str, version: str, built: int) -> list[str]:
    """What a document says of itself; by chance and the clock it would be another one each time."""
    number = uuid.uuid5(uuid.NAMESPACE_URL, f"{name} {version} {built}")
    moment = datetime.fromtimestamp(built, UTC).isoformat()
    return [
        *("--sbom-type", "cdx", "--cdx-serialnumber", str(number), "--timestamp", moment),
        *("--distro-name", name, "--distro-version", version),
    ]


def _debsbom(command: str, *words: str, target: Path) -> None:
    """Run debsbom, which adds the ending of CycloneDX to the name that it is given."""
    stem = str(target).removesuffix(".cdx.json")
    run([_program("debsbom"), command, "--out", stem, *words], timeout=LIMIT)


def _program(name: str) -> Path:
    return Path(sys.executable).with_name(name)
