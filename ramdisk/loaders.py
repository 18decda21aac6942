# SPDX-License-Identifier: Apache-2.0
"""What media start with: Debian's signed shim and GRUB for UEFI, and an image of GRUB for BIOS."""

from __future__ import annotations

import shutil
from pathlib import Path

from building.process import run
from ramdisk.machine import Machine

#: The folder of those for UEFI, under the names that firmware and they themselves look for.
EFI = "EFI"
#: GRUB for BIOS: the image that a CD starts, and the sector that starts the same from a disk.
ELTORITO, HYBRID = "eltorito.img", "boot_hybrid.img"
#: All that the menu needs is in the image.
_MODULES = (
    *("biosdisk", "iso9660", "part_msdos", "part_gpt", "normal", "configfile", "linux", "test", "echo"),
    *("search", "search_fs_file", "all_video", "gfxterm", "halt", "reboot"),
)


def collect(tree: Path, machine: Machine, target: Path) -> None:
    """Copy the boot loaders of a machine's media out of a tree with its packages into a new directory."""
    (target / EFI).mkdir(parents=True)
    for name, place in machine.efi.items():
        shutil.copyfile(tree / place, target / EFI / name)
    if not machine.bios:
        return
    shutil.copyfile(tree / "usr/lib/grub/i386-pc" / HYBRID, target / HYBRID)
    words = ["--format=i386-pc-eltorito", "--prefix=/boot/grub", f"--output=/{ELTORITO}"]
    run(["chroot", tree, "grub-mkimage", *words, *_MODULES], timeout=60)
    shutil.move(tree / ELTORITO, target / ELTORITO)
