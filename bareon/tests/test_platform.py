# SPDX-License-Identifier: Apache-2.0
"""Which platform a node is, and what images bring for each, by the names that packages of Debian and SUSE have."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from bareon.boot.installed import check_processor
from bareon.boot.platform import ARM64_UEFI, PC_BIOS, PC_UEFI, PLATFORMS, Platform, platform
from bareon.boot.signed import shipped
from bareon.errors import ActionFailed
from bareon.model.hardware import HardwareFacts
from bareon.storage.kind import Firmware
from bareon.system.tree import Tree
from bareon.tools import pe


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


def stub(machine: int, place: int = 0x40) -> bytes:
    """The beginning of a kernel with a stub for EFI: where its header lies, and the processor in that."""
    front = b"MZ" + b"\0" * 0x3A + place.to_bytes(4, "little")
    return front + b"\0" * (place - len(front)) + b"PE\0\0" + machine.to_bytes(2, "little") + b"\0" * 64


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (stub(0xAA64), 0xAA64),
        (stub(0x8664, 0x80), 0x8664),
        (stub(0x8664)[:0x45], None),
        (stub(0x8664)[:0x3E], None),
        (b"MZ" + b"\xff" * 0x60, None),
        (b"kernel", None),
        (b"", None),
    ],
)
def test_the_processor_of_a_program(content: bytes, expected: int | None) -> None:
    assert pe.machine(io.BytesIO(content)) == expected


@pytest.mark.parametrize(
    ("content", "platform", "fine"),
    [
        (stub(0x8664), PC_UEFI, True),
        (stub(0x14C), PC_BIOS, True),
        (stub(0xAA64), ARM64_UEFI, True),
        (b"a kernel that tells nothing", ARM64_UEFI, True),
        (stub(0x8664), ARM64_UEFI, False),
        (stub(0xAA64), PC_UEFI, False),
        (stub(0xAA64), PC_BIOS, False),
    ],
)
def test_a_kernel_for_another_processor(content: bytes, platform: Platform, fine: bool, tmp_path: Path) -> None:
    (tmp_path / "boot").mkdir()
    (tmp_path / "boot/vmlinuz-6.1").write_bytes(content)
    tree = Tree(str(tmp_path))
    if fine:
        check_processor(tree, "vmlinuz-6.1", platform, "a")
        return
    with pytest.raises(ActionFailed) as caught:
        check_processor(tree, "vmlinuz-6.1", platform, "a")
    assert str(caught.value).startswith("image 'a' would not start: its kernel vmlinuz-6.1 is for another processor")
    assert platform.processors[0] in str(caught.value)
