# SPDX-License-Identifier: Apache-2.0
"""What a program of a deployed system sees of the machine it is run on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from bareon.errors import ActionFailed, UnsuitableNode
from bareon.storage.filesystem import Mounted
from bareon.system.tree import Tree, holds
from bareon.tools import lvm, sandbox, seccomp

#: What the boot loader gave to the ramdisk, and whose keys its kernel holds: that of a LUKS container is named there.
_BLANK = ("/proc/cmdline", "/proc/bootconfig", "/proc/keys", "/proc/key-users")
_PSEUDO = ("/dev", "/proc", "/sys", "/run")
#: Where programs have their own files. What is kept elsewhere is somebody's data.
_SYSTEM = ("/etc", "/usr", "/boot/grub", "/boot/efi", "/var/lib", "/var/tmp")


def check() -> None:
    """See that programs of an image can be run in a sandbox.

    :raises UnsuitableNode: when the filter of system calls cannot be made.
    """
    if not seccomp.has_library():
        raise UnsuitableNode(
            f"{seccomp.LIBRARY} is not installed, without which no program of an image is run: install libseccomp in"
            " the ramdisk, or give --image_programs none"
        )


def view(tree: Tree, files: Mapping[str, str] | None = None) -> sandbox.View:
    """The tree of an image, without the data in it that is kept, and names of its own volumes without the devices.

    :param files: texts that stand in for files of the image, by path; those that it does not have are left out.
    :raises ActionFailed: when the image has links in place of /dev, /proc, /sys or /run.
    """
    for folder in _PSEUDO:
        tree.folder(folder)
    return sandbox.View(
        tree.root,
        volumes=tuple(tree.root if x.point == "/" else tree.outside(x.point) for x in tree.mounts),
        hidden=tuple(x.point for x in tree.mounts if x.kept and not _is_of_system(x.point)),
        names=tuple(dict.fromkeys(name for x in tree.mounts for name in _names(x))),
        files={place: text for x, text in (files or {}).items() if (place := tree.end(x))},
        fresh=("/run", "/tmp") if _has_folder(tree, "/tmp") else ("/run",),
        blank=tuple(x for x in _BLANK if Path(x).exists()),
        efi=Path("/sys/firmware/efi").is_dir(),
    )


def _is_of_system(point: str) -> bool:
    return holds("/usr", point) or any(holds(point, folder) for folder in _SYSTEM)


def _names(mounted: Mounted) -> tuple[str, ...]:
    return (mounted.device, lvm.mapper_device(mounted.device), f"/dev/disk/by-uuid/{mounted.uuid}")


def _has_folder(tree: Tree, path: str) -> bool:
    try:
        tree.folder(path)
    except ActionFailed:  # a link, as /tmp to /var/tmp, which leads to what is its own
        return False
    return True
