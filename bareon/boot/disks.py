# SPDX-License-Identifier: Apache-2.0
"""The disks that a node boots from, and GRUB on each of them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from bareon.boot import esp
from bareon.errors import CommandError
from bareon.facts.node import DiskFacts, NodeFacts
from bareon.model.layout import ESP_MOUNT, FilesystemLayout, Layout
from bareon.plan.step import Outcome
from bareon.system.tree import Tree
from bareon.tools import efi, grub, mount

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class BootDisk:
    """A disk that firmware can start GRUB from. ``esp`` is its EFI system partition, with its ``number``.

    On a BIOS node there is none. ``label`` names the disk in the firmware's menu, the same in every run.
    """

    device: str
    label: str
    esp: FilesystemLayout | None = None
    number: int = 0


@dataclass(frozen=True)
class Source:
    """Where GRUB comes from and where its modules go.

    ``tree`` holds the file systems; with ``inside``, programs of the system in it are run, and paths are its own.
    """

    tree: Tree
    inside: bool
    boot: str = "/boot"
    program: str = "grub-install"
    loader: str | None = None

    @property
    def root(self) -> str | None:
        return self.tree.root if self.inside else None

    def path(self, path: str) -> str:
        """The path as the program sees it; the folder is made where it is missing."""
        place = self.tree.folder(path)
        return path if self.inside else place


def boot_disks(layout: Layout, node: NodeFacts) -> tuple[BootDisk, ...]:
    """The disks of the layout that can boot, in its order."""
    facts = {disk.device: disk for disk in node.disks}
    found = []
    for disk in layout.disks:
        label = f"bareon {_name(facts[disk.device])}"
        for part in disk.partitions:
            if part.role == "bios_grub" and layout.firmware == "bios":
                found.append(BootDisk(disk.device, label))
            elif part.role == "esp":
                found.append(BootDisk(disk.device, label, part.filesystem, part.number))
    return tuple(found)


def _name(disk: DiskFacts) -> str:
    """What stays the same when the kernel numbers disks differently."""
    name = disk.serial or disk.wwn or disk.device.removeprefix("/dev/")
    return "".join(char if char.isascii() and char.isprintable() else "_" for char in name)[:64]


def install(disks: Sequence[BootDisk], source: Source) -> Outcome:
    """Put GRUB onto every disk, and have the firmware know of it where it has a memory for that."""
    boot = source.path(source.boot)
    loaders = []
    for disk in disks:
        if disk.esp:
            place = source.path(ESP_MOUNT)
            with mount.mounted(disk.esp.device, source.tree.outside(ESP_MOUNT), kind="vfat"):
                grub.install_uefi(place, boot, root=source.root, program=source.program, loader=source.loader)
                loaders.append(esp.add_removable(source.tree.outside(ESP_MOUNT)))
                mount.write_back(source.tree.outside(ESP_MOUNT))
        else:
            grub.install_bios(disk.device, boot, root=source.root, program=source.program)
    return {"nvram": _remember(disks, loaders)} if loaders else {}


def _remember(disks: Sequence[BootDisk], loaders: Sequence[str]) -> str:
    """Make an NVRAM entry for each disk, that of the first disk first in the order.

    The path EFI/BOOT is there without any, so that a firmware that refuses ends no deployment.
    """
    made = 0
    try:
        with efi.variables():
            for disk, loader in reversed(list(zip(disks, loaders, strict=True))):
                efi.replace(disk.label, disk.device, disk.number, loader)
                made += 1
    except (CommandError, OSError) as error:
        LOG.warning("boot entries in NVRAM: %d of %d, the rest is EFI/BOOT/BOOTX64.EFI: %s", made, len(disks), error)
        return f"{made} of {len(disks)} entries, the rest is EFI/BOOT/BOOTX64.EFI ({error})"
    return f"{made} {'entry' if made == 1 else 'entries'}"
