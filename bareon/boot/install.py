# SPDX-License-Identifier: Apache-2.0
"""GRUB on each disk that the node boots from."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

from bareon.boot import esp, nvram
from bareon.boot.disks import BootDisk
from bareon.model.deployment import BootOrder
from bareon.step import Outcome
from bareon.storage.filesystem import ESP_MOUNT, PlannedFilesystem
from bareon.system.tree import Tree
from bareon.tools import grub, mount


@dataclass(frozen=True)
class Source:
    """The installation that GRUB comes from, and the place of its modules.

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


def install(disks: Sequence[BootDisk], source: Source, order: BootOrder) -> Outcome:
    """Install GRUB on every disk, with an NVRAM entry for each on UEFI."""
    boot = source.path(source.boot)
    loaders = []
    for disk in disks:
        if disk.esp:
            place = source.path(ESP_MOUNT)
            with _at_its_place(disk.esp, source.tree):
                grub.install_uefi(
                    place,
                    boot,
                    target=disk.platform.grub_target,
                    root=source.root,
                    program=source.program,
                    loader=source.loader,
                )
                loaders.append(esp.add_removable(source.tree.outside(ESP_MOUNT), disk.platform))
                mount.write_back(source.tree.outside(ESP_MOUNT))
        else:
            grub.install_bios(
                disk.device, boot, target=disk.platform.grub_target, root=source.root, program=source.program
            )
    return nvram.remember(disks, loaders, order) if loaders else {}


def _at_its_place(esp: PlannedFilesystem, tree: Tree) -> contextlib.AbstractContextManager[object]:
    """Mount an EFI system partition where the system has it, unless it is one of the tree's file systems there."""
    if any((x.point, x.device) == (ESP_MOUNT, esp.device) for x in tree.mounts):
        return contextlib.nullcontext()
    return mount.mounted(esp.device, tree.outside(ESP_MOUNT), kind="vfat")
