# SPDX-License-Identifier: Apache-2.0
"""Wanted LVM volume groups and logical volumes."""

from __future__ import annotations

from dataclasses import dataclass, field

from bareon.model.filesystem import Filesystem
from bareon.sizes import MIB, Size

EXTENT = 4 * MIB  # bytes, LVM's default
METADATA = MIB  # bytes of each physical volume that LVM takes with its defaults
LEAST_METADATA = 10 * MIB  # bytes, where a size is given

# From lvm(8): what names of logical volumes must not begin with, and must not contain.
RESERVED = ("snapshot", "pvmove")
RESERVED_PARTS = (
    "_cdata", "_cmeta", "_corig", "_cpool", "_cvol", "_imeta", "_iorig", "_mimage", "_mlog", "_pmspare", "_rimage",
    "_rmeta", "_tdata", "_tmeta", "_vdata", "_vorigin", "_wcorig",
)  # fmt: skip
# A group is a folder of its name in /dev, where these are already.
NAMES_IN_DEV = (
    "autofs", "block", "bsg", "btrfs-control", "bus", "char", "console", "core", "cpu", "cuse", "disk", "dri",
    "fb0", "fd", "full", "fuse", "hpet", "hugepages", "hwrng", "initctl", "input", "kmsg", "kvm", "log",
    "loop-control", "mapper", "md", "mem", "mqueue", "net", "null", "nvram", "port", "ppp", "ptmx", "pts",
    "random", "rtc", "rtc0", "shm", "snd", "stderr", "stdin", "stdout", "tty", "uhid", "uinput", "urandom",
    "vfio", "vga_arbiter", "vhost-net", "virtio-ports", "zero",
)  # fmt: skip
LONGEST_DEVICE_NAME = 126  # bytes of "group-volume", hyphens in either doubled; DM_NAME_LEN in linux/dm-ioctl.h


@dataclass(frozen=True)
class LogicalVolume:
    """A logical volume that holds a file system, or nothing that bareon knows of."""

    name: str
    size: Size
    filesystem: Filesystem | None = None
    path: str = field(default="$", compare=False)


@dataclass(frozen=True)
class VolumeGroup:
    """A volume group. Its physical volumes name it by ``vg``."""

    name: str
    volumes: tuple[LogicalVolume, ...]
    path: str = field(default="$", compare=False)
