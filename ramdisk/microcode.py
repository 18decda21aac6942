# SPDX-License-Identifier: Apache-2.0
"""Microcode of processors, which the kernel takes from an archive at the front of the initramfs."""

from __future__ import annotations

import shutil
from pathlib import Path

from ramdisk import archive

#: The kernel's names (Documentation/arch/x86/microcode.rst), and where Debian's packages have the parts.
PLACES = {"GenuineIntel.bin": "intel-ucode/*", "AuthenticAMD.bin": "amd-ucode/*.bin"}


def collect(tree: Path, target: Path, built: int) -> None:
    """Pack what microcode there is in a Debian tree, in any number; the archive is not compressed, as it must be."""
    place = target.with_suffix("")
    folder = place / "kernel/x86/microcode"
    place.mkdir()
    for name, pattern in PLACES.items():
        if parts := sorted((tree / "lib/firmware").glob(pattern)):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(b"".join(part.read_bytes() for part in parts))
    archive.pack(place, target, date=built)
    shutil.rmtree(place)
