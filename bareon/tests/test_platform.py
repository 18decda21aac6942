# SPDX-License-Identifier: Apache-2.0
"""Which platform a node is, and what images bring for each, by the names that packages of Debian and SUSE have."""

from __future__ import annotations

import pytest

from bareon.boot.platform import ARM64_UEFI, PC_BIOS, PC_UEFI, PLATFORMS, Platform, platform
from bareon.boot.signed import shipped
from bareon.model.hardware import HardwareFacts
from bareon.storage.kind import Firmware


@pytest.mark.parametrize(
    ("firmware", "processor", "expected"),
    [
        ("bios", "x86_64", PC_BIOS),
        ("uefi", "x86_64", PC_UEFI),
        ("bios", "i686", PC_BIOS),
        ("uefi", "aarch64", ARM64_UEFI),
        ("bios", "aarch64", None),
        ("uefi", "riscv64", None),
        ("uefi", None, PC_UEFI),
        ("bios", None, PC_BIOS),
    ],
)
def test_the_platform_of_a_node(firmware: Firmware, processor: str | None, expected: Platform | None) -> None:
    """A node whose hardware nobody has looked at is a PC."""
    hardware = HardwareFacts(architecture=processor, processors=1, memory=1 << 30) if processor else None
    assert platform(firmware, hardware) is expected


def test_no_file_is_of_two_platforms() -> None:
    rows = [row for row in PLATFORMS if row.firmware == "uefi"]
    names = [x.lower() for row in rows for x in (row.removable, row.shim, row.grub, *row.helpers, row.systemd_boot)]
    assert len({*names}) == len(names)
    assert all(x in {y.lower() for y in row.helpers} for row in rows for x in row.left_out)


def test_where_images_bring_signed_programs_for_arm64() -> None:
    places = shipped(ARM64_UEFI, lambda path: [])
    assert (places[0].shim, places[0].grub) == (
        "/usr/lib/shim/shimaa64.efi.signed",
        "/usr/lib/grub/arm64-efi-signed/grubaa64.efi.signed",
    )
    assert places[-1].shim == "/usr/share/efi/aarch64/shim.efi"
    assert not [x for place in places for x in (place.shim, place.grub) if "x64" in x or "x86" in x]
