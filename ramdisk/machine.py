# SPDX-License-Identifier: Apache-2.0
"""The machines that a ramdisk can be for: a row for each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Machine:
    """A kind of machine, by Debian's word for its ``architecture``.

    ``packages`` are Debian's that differ by it: a kernel, and GRUB for its firmware. ``microcode`` comes with
    firmware that is not free. Media start with ``loaders``, whose files do not go into the initramfs: ``efi`` has the
    name that each has on a medium, and where Debian's packages have it; ``bios`` says that a BIOS can start them as
    well. ``consoles`` are the kernel's parameters for whoever has a screen, and for whoever has a serial line.
    ``wheels`` are the platforms, as pip names them, whose compiled libraries run there.
    """

    architecture: str
    packages: tuple[str, ...]
    loaders: tuple[str, ...]
    efi: Mapping[str, str]
    wheels: tuple[str, ...]
    bios: bool = False
    microcode: tuple[str, ...] = ()
    consoles: str = "console=tty0 console=ttyS0,115200"


#: ``gcd`` is GRUB for media.
_ROWS = (
    Machine(
        "amd64",
        packages=("linux-image-amd64", "grub-pc-bin", "grub-efi-amd64-bin"),
        loaders=("shim-signed", "grub-efi-amd64-signed"),
        efi={
            "BOOTX64.EFI": "usr/lib/shim/shimx64.efi.signed",
            "grubx64.efi": "usr/lib/grub/x86_64-efi-signed/gcdx64.efi.signed",
            "mmx64.efi": "usr/lib/shim/mmx64.efi.signed",
        },
        wheels=("manylinux2014_x86_64", "manylinux_2_28_x86_64"),
        bios=True,
        microcode=("intel-microcode", "amd64-microcode"),
    ),
    Machine(
        "arm64",
        packages=("linux-image-arm64", "grub-efi-arm64-bin"),
        loaders=("shim-signed", "grub-efi-arm64-signed"),
        efi={
            "BOOTAA64.EFI": "usr/lib/shim/shimaa64.efi.signed",
            "grubaa64.efi": "usr/lib/grub/arm64-efi-signed/gcdaa64.efi.signed",
            "mmaa64.efi": "usr/lib/shim/mmaa64.efi.signed",
        },
        wheels=("manylinux2014_aarch64", "manylinux_2_28_aarch64"),
        # One of the two serial lines is there, by the maker of the machine.
        consoles="console=tty0 console=ttyS0,115200 console=ttyAMA0,115200",
    ),
)
MACHINES = {row.architecture: row for row in _ROWS}
#: The one that is built for where nobody says another.
USUAL = "amd64"
