# SPDX-License-Identifier: Apache-2.0
"""Platforms that bareon installs a boot loader for: a row for each pair of architecture and firmware."""

from __future__ import annotations

from dataclasses import dataclass

from bareon.model.hardware import HardwareFacts
from bareon.storage.kind import Firmware


@dataclass(frozen=True)
class Platform:
    """A firmware, the GRUB built for it, and the names of EFI programs, which are empty for a BIOS.

    ``processors`` are those of the machines it is on, as the kernel names them, and ``machines`` those that programs
    can be for to run there, as PE numbers them. ``grub_target`` is GRUB's name of the platform, as ``grub-install
    --target`` takes it. ``removable`` is the file in ``EFI/BOOT`` that firmware starts without being told (UEFI
    specification, section 3.5.1.1). ``grub`` and, with Secure Boot, ``shim`` are programs on an EFI system partition,
    ``helpers`` files that shim may need. ``left_out`` are files beside them, in lower case, that are not copied to
    ``EFI/BOOT``. ``systemd_boot`` is the program of that boot loader. ``suse`` is the folder in which SUSE's images
    bring shim and GRUB.
    """

    firmware: Firmware
    grub_target: str
    processors: tuple[str, ...]
    machines: tuple[int, ...]
    removable: str = ""
    shim: str = ""
    grub: str = ""
    helpers: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    systemd_boot: str = ""
    suse: str = ""

    @property
    def signed_shim(self) -> str:
        """The path at which an image brings the shim that somebody has signed."""
        return f"/usr/lib/shim/{self.shim}.signed"

    @property
    def signed_grub(self) -> str:
        """The path at which an image brings the GRUB that its shim starts."""
        return f"/usr/lib/grub/{self.grub_target}-signed/{self.grub}.signed"


_PC = ("x86_64", "i686")
_PC_MACHINES = (0x8664, 0x14C)
PC_BIOS = Platform("bios", "i386-pc", _PC, _PC_MACHINES)
PC_UEFI = Platform(
    "uefi",
    "x86_64-efi",
    _PC,
    _PC_MACHINES,
    removable="BOOTX64.EFI",
    shim="shimx64.efi",
    grub="grubx64.efi",
    helpers=("mmx64.efi", "fbx64.efi", "BOOTX64.CSV"),
    # shim's fallback would write NVRAM entries of its own and restart the machine.
    left_out=("fbx64.efi", "bootx64.csv"),
    systemd_boot="systemd-bootx64.efi",
    suse="/usr/share/efi/x86_64",
)
ARM64_UEFI = Platform(
    "uefi",
    "arm64-efi",
    ("aarch64",),
    (0xAA64,),
    removable="BOOTAA64.EFI",
    shim="shimaa64.efi",
    grub="grubaa64.efi",
    helpers=("mmaa64.efi", "fbaa64.efi", "BOOTAA64.CSV"),
    left_out=("fbaa64.efi", "bootaa64.csv"),
    systemd_boot="systemd-bootaa64.efi",
    suse="/usr/share/efi/aarch64",
)
PLATFORMS = (PC_BIOS, PC_UEFI, ARM64_UEFI)


def platform(firmware: Firmware, hardware: HardwareFacts | None) -> Platform | None:
    """The platform of a node, if there is one; a node of whose hardware nothing is known is a PC."""
    processor = hardware.architecture if hardware else _PC[0]
    return next((row for row in PLATFORMS if row.firmware == firmware and processor in row.processors), None)
