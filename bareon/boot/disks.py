# SPDX-License-Identifier: Apache-2.0
"""The disks that a node boots from."""

from __future__ import annotations

from dataclasses import dataclass

from bareon.boot.platform import Platform, platform
from bareon.model.layout import Layout
from bareon.model.node import NodeFacts
from bareon.storage.disk import DiskFacts
from bareon.storage.filesystem import PlannedFilesystem

PREFIX = "bareon "
"""Of the labels of bareon's entries in the firmware's menu."""


@dataclass(frozen=True)
class BootDisk:
    """A disk that firmware can start GRUB from.

    ``esp`` is its EFI system partition, with its ``number`` and ``guid``; on a BIOS node there is none. ``label``
    names the disk in the firmware's menu, the same in every run.
    """

    device: str
    label: str
    platform: Platform
    esp: PlannedFilesystem | None = None
    number: int = 0
    guid: str = ""


def boot_disks(layout: Layout, node: NodeFacts) -> tuple[BootDisk, ...]:
    """The disks of the layout that can boot, in its order; none of a node that there is no boot loader for."""
    facts = {disk.device: disk for disk in node.disks}
    there = platform(layout.firmware, node.hardware)
    if there is None:
        return ()
    found = []
    for disk in layout.disks:
        label = f"{PREFIX}{_name(facts[disk.device])}"
        for part in disk.partitions:
            if part.role == "bios_grub" and there.firmware == "bios":
                found.append(BootDisk(disk.device, label, there))
            elif part.role == "esp" and isinstance(part.content, PlannedFilesystem):
                found.append(BootDisk(disk.device, label, there, part.content, part.number, part.guid))
    return tuple(found)


def _name(disk: DiskFacts) -> str:
    """A stable name: the same when the kernel numbers disks differently."""
    name = disk.serial or disk.wwn or disk.device.removeprefix("/dev/")
    return "".join(char if char.isascii() and char.isprintable() else "_" for char in name)[:64]
