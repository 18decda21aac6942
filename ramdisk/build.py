# SPDX-License-Identifier: Apache-2.0
"""Puts the ramdisk's two layers together."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from building import cache, wheel
from ramdisk import archive
from ramdisk.base import build_base

#: What a node gets when the checkout has no sample configuration.
DEFAULT_CONFIGURATION = "[DEFAULT]\nlog_file = /var/log/bareon.log\n"
CONFIGURATION = Path("etc/bareon/bareon.conf")


@dataclass(frozen=True)
class Ramdisk:
    """A bootable ramdisk: files on this machine, and what is in them."""

    kernel: Path
    initramfs: Path
    version: str

    def copy_to(self, target: Path) -> None:
        """Copy kernel and initramfs into a directory."""
        target.mkdir(parents=True, exist_ok=True)
        for path in (self.kernel, self.initramfs):
            shutil.copy2(path, target / path.name)


def build(report: cache.Report, public_key: str | None = None) -> Ramdisk:
    """Return the ramdisk of the checkout as it stands, made if it is not in the cache.

    :param public_key: a line of ``authorized_keys`` for root; without one nobody can log in by SSH
    :raises ProgramError: when a part cannot be fetched or built
    """
    base = build_base(report)
    version = wheel.version()
    inputs = cache.digest(base.name, version, public_key or "", Path(__file__), Path(archive.__file__), *_sources())

    def make(target: Path) -> None:
        tree = target / "tree"
        _fill_overlay(tree, target, version, public_key)
        archive.pack(tree, target / "overlay.cpio")
        archive.join([base / "base.cpio.zst", target / "overlay.cpio"], target / "initramfs")
        os.link(base / "vmlinuz", target / "vmlinuz")
        shutil.rmtree(tree)
        (target / "overlay.cpio").unlink()

    place = cache.product("ramdisk", inputs, make, report)
    return Ramdisk(place / "vmlinuz", place / "initramfs", version)


def _sources() -> list[Path]:
    sample = wheel.CHECKOUT / CONFIGURATION
    # Each file by itself: their names in the hash are short, so moving one needs its parent too.
    return [*wheel.source_files(), *([sample] if sample.is_file() else [])]


def _fill_overlay(tree: Path, scratch: Path, version: str, public_key: str | None) -> None:
    """Lay out what the base lacks: bareon, its configuration, and who may log in."""
    built = wheel.build_own(scratch)
    wheel.install_into(tree, [built])
    built.unlink()
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
