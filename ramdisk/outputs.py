# SPDX-License-Identifier: Apache-2.0
"""The files that a build gives to operators: for a network boot, for media, and what is in them."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from building import cache, date, wheel
from ramdisk import iso, parameters, sbom
from ramdisk.build import Ramdisk

ISO, IPXE, PACKAGES, SUMS = "bareon.iso", "bareon.ipxe", "packages.txt", "SHA256SUMS"


def write(base: Path, ramdisk: Ramdisk, line: str, target: Path, report: cache.Report) -> None:
    """Write all of them into a directory, and report which packages differ from those of an earlier build there.

    :param base: the product of :func:`ramdisk.base.build_base`
    :param line: the kernel's command line
    """
    target.mkdir(parents=True, exist_ok=True)
    for path in (ramdisk.kernel, ramdisk.initramfs, ramdisk.initramfs.with_name(sbom.FILE)):
        shutil.copyfile(path, target / path.name)
    iso.write(base, ramdisk, line, date.epoch(wheel.CHECKOUT), target / ISO)
    (target / IPXE).write_text(parameters.for_ipxe(line))
    packages = sbom.packages(target / sbom.FILE)
    if (target / PACKAGES).is_file():
        earlier = dict(line.split(" ", 1) for line in (target / PACKAGES).read_text().splitlines())
        for change in changes(earlier, packages):
            report(f"packages: {change}")
    (target / PACKAGES).write_text("".join(f"{name} {rest}\n" for name, rest in packages.items()))
    names = ("vmlinuz", "initramfs", ISO, IPXE, PACKAGES, sbom.FILE)
    (target / SUMS).write_text("".join(f"{_digest(target / name)}  {name}\n" for name in names))


def changes(before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[str]:
    """Say what became of packages, as :func:`ramdisk.sbom.packages` has them: Debian's archive moves on."""
    for name in sorted(before.keys() | after.keys()):
        old, new = (x[name].split(" ")[0] if name in x else "none" for x in (before, after))
        if before.get(name) != after.get(name):
            report = f"{old} before, {new} now" if old != new else f"{new}, of another content"
            yield f"{name}: {report}"


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
