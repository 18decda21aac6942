# SPDX-License-Identifier: Apache-2.0
"""What media start with: Debian's signed shim and GRUB for UEFI, and an image of GRUB for BIOS."""

from __future__ import annotations

import shutil
from pathlib import Path

from building.process import run

#: Debian's packages of it, whose files do not go into the initramfs.
PACKAGES = ("shim-signed", "grub-efi-amd64-signed")
#: Where firmware looks on a medium, and where Debian's packages have it. ``gcd`` is GRUB for media.
EFI = {
    "BOOTX64.EFI": "usr/lib/shim/shimx64.efi.signed",
    "grubx64.efi": "usr/lib/grub/x86_64-efi-signed/gcdx64.efi.signed",
    "mmx64.efi": "usr/lib/shim/mmx64.efi.signed",
}
#: GRUB for BIOS: the image that a CD starts, and the sector that starts the same from a disk.
ELTORITO, HYBRID = "eltorito.img", "boot_hybrid.img"
#: All that the menu needs is in the image.
_MODULES = (
    *("biosdisk", "iso9660", "part_msdos", "part_gpt", "normal", "configfile", "linux", "test", "echo"),
    *("search", "search_fs_file", "all_video", "gfxterm", "halt", "reboot"),
)


def collect(tree: Path, target: Path) -> None:
    """Copy the boot loaders out of a tree with the packages :data:`PACKAGES` into a new directory."""
    target.mkdir()
    for name, place in EFI.items():
        shutil.copyfile(tree / place, target / name)
    shutil.copyfile(tree / "usr/lib/grub/i386-pc" / HYBRID, target / HYBRID)
    words = ["--format=i386-pc-eltorito", "--prefix=/boot/grub", f"--output=/{ELTORITO}"]
    run(["chroot", tree, "grub-mkimage", *words, *_MODULES], timeout=60)
    shutil.move(tree / ELTORITO, target / ELTORITO)
