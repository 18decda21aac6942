# SPDX-License-Identifier: Apache-2.0
"""The boot loader of virtual media for UEFI, which Ironic takes from its operator: GRUB in an image of an ESP."""

from __future__ import annotations

from pathlib import Path

from building.process import run

MODULES = (
    *("iso9660", "fat", "part_gpt", "part_msdos", "search", "search_label", "configfile", "normal", "linux"),
    *("echo", "test", "serial", "terminal", "efi_gop"),
)
#: By its label: a disk of the node may have files of the same names.
_EARLY = "search --no-floppy --set=root --label VMEDIA_BOOT_ISO\nconfigfile ($root)/EFI/BOOT/grub.cfg\n"


def build(place: Path) -> Path:
    """Make the image below a directory, and return it.

    :raises ProgramError: when one of the programs does
    """
    early, program, image = (place / name for name in ("early.cfg", "BOOTX64.EFI", "esp.img"))
    early.write_text(_EARLY)
    names = ["-O", "x86_64-efi", "-p", "/EFI/BOOT", "-c", str(early), "-o", str(program)]
    run(["grub-mkimage", *names, *MODULES], timeout=60)
    with image.open("wb") as file:
        file.truncate(4 << 20)
    run(["mkfs.vfat", image], timeout=60)
    run(["mmd", "-i", image, "::EFI", "::EFI/BOOT"], timeout=60)
    run(["mcopy", "-i", image, program, "::EFI/BOOT/BOOTX64.EFI"], timeout=60)
    return image
