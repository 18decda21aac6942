# SPDX-License-Identifier: Apache-2.0
"""The machines that the ramdisk is built for, and the emulator that another one's packages need."""

from __future__ import annotations

from pathlib import Path

import pytest

from bareon.boot.platform import PLATFORMS
from building import foreign
from building.process import ProgramError
from ramdisk import parameters
from ramdisk.machine import MACHINES, USUAL
from ramdisk.profile import PROFILES

NAME = "qemu-aarch64"
INTERPRETER = "interpreter /usr/libexec/qemu-binfmt/aarch64-binfmt-P"


@pytest.mark.parametrize("architecture", sorted(MACHINES))
def test_rows(architecture: str) -> None:
    """A ramdisk has a GRUB for a UEFI that bareon knows, and its medium starts by the file that this takes."""
    machine = MACHINES[architecture]
    assert f"linux-image-{architecture}" in machine.packages
    assert f"grub-efi-{architecture}-bin" in machine.packages
    (platform,) = (row for row in PLATFORMS if row.removable in machine.efi)
    assert machine.efi[platform.removable] == platform.signed_shim.removeprefix("/")
    assert {platform.grub, platform.helpers[0]} <= {*machine.efi}
    assert ("grub-pc-bin" in machine.packages) == machine.bios
    assert architecture in foreign.EMULATORS
    assert not {*machine.packages} & {x for profile in PROFILES.values() for x in profile.packages}


def test_consoles_are_the_machines() -> None:
    arm64 = MACHINES["arm64"].consoles
    assert "ttyAMA0" in arm64 and "ttyAMA0" not in parameters.line("")
    assert parameters.line("a", arm64) == f"{arm64} a"
    assert parameters.line("console=ttyS1", arm64) == "console=ttyS1"
    assert parameters.line("") == MACHINES[USUAL].consoles


@pytest.mark.parametrize(
    ("entry", "fine"),
    [
        (f"enabled\n{INTERPRETER}\nflags: PF\noffset 0\n", True),
        (f"enabled\n{INTERPRETER}\nflags: OCF\noffset 0\n", True),
        (f"disabled\n{INTERPRETER}\nflags: PF\noffset 0\n", False),
        (f"enabled\n{INTERPRETER}\nflags: POC\noffset 0\n", False),
        (f"enabled\n{INTERPRETER}F\nflags: \noffset 0\n", False),
        (None, False),
    ],
)
def test_an_emulator_must_be_found_from_within_a_tree(entry: str | None, fine: bool, tmp_path: Path) -> None:
    if entry is not None:
        (tmp_path / NAME).write_text(entry)
    if fine:
        foreign.check_emulator(NAME, tmp_path)
        return
    with pytest.raises(ProgramError) as caught:
        foreign.check_emulator(NAME, tmp_path)
    assert "update-binfmts --enable qemu-aarch64" in str(caught.value) and "qemu-user-static" in str(caught.value)
