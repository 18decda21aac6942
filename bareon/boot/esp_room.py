# SPDX-License-Identifier: Apache-2.0
"""Room on EFI system partitions for kernels, asked of an image before the first write.

systemd-boot starts what lies on these partitions alone, so that they hold a copy of each kernel and its initramfs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bareon.boot.disks import BootDisk
from bareon.boot.entries import uki
from bareon.errors import UnsuitableNode
from bareon.model.image import Early
from bareon.sizes import MIB, human
from bareon.storage.filesystem import ESP_MOUNT
from bareon.system.family import initramfs_names, kernel_version
from bareon.system.kernel import is_odd

SPARE = MIB
"""Bytes for folders and clusters that are not full."""
REMEDY = f"give it a volume of its own at {ESP_MOUNT} that is larger"


def check(image: str, early: Early, disks: Sequence[BootDisk], loader: int) -> list[str]:
    """Compare what an image will have copied with the sizes of the partitions.

    Which of the kernels is the one that must have room is seen when they are there: one of them is enough now. What
    else lies on a partition that is kept is seen then too.

    :param loader: the size of systemd-boot, in bytes, of which each partition gets two copies.
    :returns: warnings.
    :raises UnsuitableNode: when a partition has room for none of them.
    """
    found = _found(early)
    told = []
    for disk in disks:
        if not disk.esp or not found:
            continue
        room = disk.esp.size - SPARE - 2 * loader
        where = f"the EFI system partition {disk.esp.device} has room for {human(max(room, 0))}"
        name, least = min(found.items(), key=lambda x: x[1])
        if least > room:
            what = (
                f"{name} with its initramfs"
                if len(found) == 1
                else f"{name} with its initramfs, the smallest of all,"
            )
            raise UnsuitableNode(
                f"image {image!r} boots by systemd-boot, and {what} has {human(least)}; {where}: {REMEDY}"
            )
        if (whole := sum(found.values())) > room:
            told.append(
                f"the {len(found)} kernels of image {image!r} with their initramfs have {human(whole)}; {where}, so"
                " that older ones are left out"
            )
    return told


def _found(early: Early) -> Mapping[str, int]:
    """Bytes of each kernel with its initramfs in ``/boot``, else of each unified kernel image, by their paths."""
    there = early.sizes("/boot")
    names = {path.removeprefix("/boot/"): size for path, size in there.items()}
    found = {}
    for name, size in names.items():
        version = kernel_version(name)
        beside = (x for x in initramfs_names(version) if x in names) if version and not is_odd(version) else ()
        if initrd := next(iter(beside), None):
            found[f"/boot/{name}"] = size + names[initrd]
    folders = [x for x in uki.FOLDERS if not x.startswith(f"{ESP_MOUNT}/")]
    return found or {path: size for x in folders for path, size in early.sizes(x).items() if path.endswith(".efi")}
