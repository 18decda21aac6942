# SPDX-License-Identifier: Apache-2.0
"""Puts the ramdisk's two layers together."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from building import cache, date, wheel
from ramdisk import archive, sbom
from ramdisk.base import ARCHIVE, BILL, KERNEL, MICROCODE, WHEELS, build_base
from ramdisk.machine import USUAL

#: What a node gets when the checkout has no sample configuration.
DEFAULT_CONFIGURATION = "[DEFAULT]\nlog_file = /var/log/bareon.log\n"
CONFIGURATION = Path("etc/bareon/bareon.conf")


@dataclass(frozen=True)
class Ramdisk:
    """A bootable ramdisk: files on this machine, and what is in them."""

    kernel: Path
    initramfs: Path
    version: str


def build(
    report: cache.Report,
    public_key: str | None = None,
    profile: str = "small",
    *,
    firmware: bool = False,
    architecture: str = USUAL,
) -> Ramdisk:
    """Return the ramdisk of the checkout as it stands, made if it is not in the cache.

    :param public_key: a line of ``authorized_keys`` for root; without one nobody can log in by SSH
    :param profile: a name in :data:`ramdisk.profile.PROFILES`
    :param firmware: take what hardware needs that is not free
    :param architecture: a name in :data:`ramdisk.machine.MACHINES`
    :raises ProgramError: when a part cannot be fetched or built
    """
    base = build_base(report, profile, firmware=firmware, architecture=architecture)
    version = wheel.version()
    built = date.epoch(wheel.CHECKOUT)
    code = [Path(__file__), Path(archive.__file__), Path(sbom.__file__)]
    inputs = cache.digest(base.name, version, str(built), public_key or "", *code, *_sources())

    def make(target: Path) -> None:
        tree, scratch = target / "tree", target / "scratch"
        scratch.mkdir()
        own = wheel.build_own(scratch, built)
        _fill_overlay(tree, own, version, public_key)
        overlay = scratch / "overlay.cpio"
        archive.pack(tree, overlay, date=built)
        archive.join([base / MICROCODE, base / ARCHIVE, overlay], target / "initramfs")
        os.link(base / KERNEL, target / "vmlinuz")
        wheels = (base / WHEELS).read_text() + sbom.lines([own])
        sbom.whole(base / BILL, wheels, version, built, scratch, target / sbom.FILE)
        os.utime(target / "initramfs", (built, built))
        for done in (tree, scratch):
            shutil.rmtree(done)

    place = cache.product("ramdisk", inputs, make, report)
    return Ramdisk(place / "vmlinuz", place / "initramfs", version)


def _sources() -> list[Path]:
    sample = wheel.CHECKOUT / CONFIGURATION
    # Each file by itself: their names in the hash are short, so moving one needs its parent too.
    return [*wheel.source_files(), *([sample] if sample.is_file() else [])]


def _fill_overlay(tree: Path, own: Path, version: str, public_key: str | None) -> None:
    """Lay out what the base lacks: bareon of its wheel, its configuration, and who may log in."""
    wheel.install_into(tree, [own])
    commands = tree / "usr/local/bin"
    commands.mkdir(parents=True)
    for script in sorted((tree / wheel.VENV.relative_to("/") / "bin").iterdir()):
        (commands / script.name).symlink_to(wheel.VENV / "bin" / script.name)
    etc = tree / "etc"
    (etc / "bareon").mkdir(parents=True)
    (etc / "bareon-release").write_text(f"bareon=={version}\n")
    sample = wheel.CHECKOUT / CONFIGURATION
    text = sample.read_text() if sample.is_file() else DEFAULT_CONFIGURATION
    (etc / "bareon" / "bareon.conf").write_text(text)
    if public_key:
        _let_in(tree, public_key)


def _let_in(tree: Path, public_key: str) -> None:
    ssh = tree / "root" / ".ssh"
    ssh.mkdir(parents=True)
    (tree / "root").chmod(0o700)
    ssh.chmod(0o700)
    keys = ssh / "authorized_keys"
    keys.write_text(public_key)
    keys.chmod(0o600)
