# SPDX-License-Identifier: Apache-2.0
"""Folders of an EFI system partition: a vendor's, and EFI/BOOT, which firmware boots without an NVRAM entry."""

from __future__ import annotations

import re

from bareon.boot.grub_defaults import defaults
from bareon.boot.installed import release
from bareon.boot.platform import Platform
from bareon.errors import ActionFailed
from bareon.system.tree import Tree

_VENDOR = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


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


def vendor(tree: Tree) -> str:
    """The folder below ``EFI`` that is called as the image's own ``grub-install`` does it: its updates go there."""
    names = (defaults(tree).get("GRUB_DISTRIBUTOR", ""), release(tree).get("ID", ""))
    words = (name.split(" ")[0].lower() for name in names)
    return next((word for word in words if _VENDOR.fullmatch(word) and word != "boot"), "grub")
