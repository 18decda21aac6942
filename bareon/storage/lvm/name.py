# SPDX-License-Identifier: Apache-2.0
"""Names of volume groups and logical volumes that LVM, or the folder /dev, does not leave to anybody; lvm(8)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from bareon.errors import Defect
from bareon.storage.lvm.pool import METADATA_PART
from bareon.storage.lvm.wanted import LogicalVolume, VolumeGroup

# From lvm(8): what names of logical volumes must not begin with, and must not contain.
_RESERVED = ("snapshot", "pvmove")
_RESERVED_PARTS = (
    "_cdata", "_cmeta", "_corig", "_cpool", "_cvol", "_imeta", "_iorig", "_mimage", "_mlog", "_pmspare", "_rimage",
    "_rmeta", "_tdata", "_tmeta", "_vdata", "_vorigin", "_wcorig",
)  # fmt: skip
# A group is a folder of its name in /dev, where these are already.
_NAMES_IN_DEV = (
    "autofs", "block", "bsg", "btrfs-control", "bus", "char", "console", "core", "cpu", "cuse", "disk", "dri",
    "fb0", "fd", "full", "fuse", "hpet", "hugepages", "hwrng", "initctl", "input", "kmsg", "kvm", "log",
    "loop-control", "mapper", "md", "mem", "mqueue", "net", "null", "nvram", "port", "ppp", "ptmx", "pts",
    "random", "rtc", "rtc0", "shm", "snd", "stderr", "stdin", "stdout", "tty", "uhid", "uinput", "urandom",
    "vfio", "vga_arbiter", "vhost-net", "virtio-ports", "zero",
)  # fmt: skip
_DISK_NAMES = r"(sd|vd|hd|xvd|nvme|md|dm-|loop|ram|tty|sr|mmcblk).*\d.*"
_LONGEST_DEVICE_NAME = 126  # bytes of "group-volume", hyphens in either doubled; DM_NAME_LEN in linux/dm-ioctl.h


def group_defects(group: VolumeGroup) -> Iterator[Defect]:
    """The defect of a group whose folder in /dev would be something else."""
    if group.name in _NAMES_IN_DEV or re.fullmatch(_DISK_NAMES, group.name):
        yield Defect(f"{group.path}.id", f"/dev/{group.name} is something else: give the group another name")


def volume_defects(group: VolumeGroup) -> Iterator[Defect]:
    """The defects of the names of the volumes of a group."""
    first: dict[str, LogicalVolume] = {}
    for volume in group.volumes:
        if volume.name in first:
            yield Defect(f"{volume.path}.name", f"{volume.name!r} is already the name of {first[volume.name].path}")
        first.setdefault(volume.name, volume)
    for volume in group.volumes:
        if volume.name.startswith(_RESERVED) or any(part in volume.name for part in _RESERVED_PARTS):
            yield Defect(f"{volume.path}.name", f"LVM keeps the name {volume.name!r} for itself")
        part = METADATA_PART if volume.kind == "thin-pool" else ""
        if part and (other := first.get(volume.name + part)):
            message = f"the metadata of thin pool {volume.name!r} are called so while it is made"
            yield Defect(f"{other.path}.name", message)
        if len(f"{group.name}{volume.name}{part}".replace("-", "--")) + 1 > _LONGEST_DEVICE_NAME:
            yield Defect(f"{volume.path}.name", "the names of group and volume are too long together")
