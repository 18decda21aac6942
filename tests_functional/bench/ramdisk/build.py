# SPDX-License-Identifier: Apache-2.0
"""Puts the ramdisk's two layers together."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from tests_functional.bench import cache, wheel
from tests_functional.bench.keys import key_pair
from tests_functional.bench.ramdisk import archive
from tests_functional.bench.ramdisk.base import build_base

#: What a node gets when the checkout has no sample configuration.
DEFAULT_CONFIGURATION = "[DEFAULT]\nlog_file = /var/log/bareon.log\n"
CONFIGURATION = Path("etc/bareon/bareon.conf")


@dataclass(frozen=True)
class Ramdisk:
    """A bootable ramdisk: files on this machine, and what is in them."""

    kernel: Path
    initramfs: Path
    key: Path
    version: str

    def copy_to(self, target: Path) -> None:
        """Copy kernel, initramfs and the SSH key into a directory."""
        target.mkdir(parents=True, exist_ok=True)
        for path in (self.kernel, self.initramfs, self.key):
            shutil.copy2(path, target / path.name)


def build(report: cache.Report) -> Ramdisk:
    """Return the ramdisk of the checkout as it stands, made if it is not in the cache.

    :raises ProgramError: when a part cannot be fetched or built
    """
    key = key_pair()
    base = build_base(report)
    version = wheel.version()
    public = key.with_suffix(".pub").read_text()
    inputs = cache.digest(base.name, version, public, Path(__file__), Path(archive.__file__), *_sources())

    def make(target: Path) -> None:
        tree = target / "tree"
        _fill_overlay(tree, target, version, public)
        archive.pack(tree, target / "overlay.cpio")
        archive.join([base / "base.cpio.zst", target / "overlay.cpio"], target / "initramfs")
        os.link(base / "vmlinuz", target / "vmlinuz")
        shutil.rmtree(tree)
        (target / "overlay.cpio").unlink()

    place = cache.product("ramdisk", inputs, make, report)
    return Ramdisk(place / "vmlinuz", place / "initramfs", key, version)


def _sources() -> list[Path]:
    sample = wheel.CHECKOUT / CONFIGURATION
    # Each file by itself: their names in the hash are short, so moving one needs its parent too.
    return [*wheel.source_files(), *([sample] if sample.is_file() else [])]


def _fill_overlay(tree: Path, scratch: Path, version: str, public_key: str) -> None:
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
    ssh = tree / "root" / ".ssh"
    ssh.mkdir(parents=True)
    (tree / "root").chmod(0o700)
    ssh.chmod(0o700)
    keys = ssh / "authorized_keys"
    keys.write_text(public_key)
    keys.chmod(0o600)
