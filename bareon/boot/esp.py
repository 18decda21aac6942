# SPDX-License-Identifier: Apache-2.0
"""The removable path of an EFI system partition, EFI/BOOT, which firmware boots without an NVRAM entry."""

from __future__ import annotations

from bareon.boot.platform import Platform
from bareon.errors import ActionFailed
from bareon.system.tree import Tree


def add_removable(place: str, platform: Platform) -> str:
    """Copy what was installed last to the removable path of the platform and beside it.

    :param place: where the partition is mounted.
    :returns: the path of the loader on the partition, as firmware writes it.
    :raises ActionFailed: when there is none, or no room.
    """
    tree = Tree(place, name="the EFI system partition")
    efi = next((name for name in tree.names("/") if name.upper() == "EFI"), "EFI")
    found = ((tree.status(f"/{efi}/{x}/{platform.grub}"), x) for x in tree.names(f"/{efi}") if x.upper() != "BOOT")
    installed = [(status.st_mtime_ns, name) for status, name in found if status]
    if not installed:
        raise ActionFailed("grub-install left no EFI program on the EFI system partition")
    folder = f"/{efi}/{max(installed)[1]}"
    loader = platform.shim if tree.is_file(f"{folder}/{platform.shim}") else platform.grub
    for name in tree.names(folder):
        if name == loader:
            tree.copy(f"{folder}/{name}", f"/{efi}/BOOT/{platform.removable}")
        elif tree.is_file(f"{folder}/{name}") and name.lower() not in platform.left_out:
            tree.copy(f"{folder}/{name}", f"/{efi}/BOOT/{name}")
    return f"{folder}/{loader}".replace("/", "\\")
