# SPDX-License-Identifier: Apache-2.0
"""A wanted file system, wherever it lies: on a partition, an array or a logical volume."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

FilesystemType = Literal["ext2", "ext3", "ext4", "xfs", "btrfs", "vfat", "swap"]
FILESYSTEM_TYPES: tuple[FilesystemType, ...] = get_args(FilesystemType)

# Longest label in bytes, from the man pages of the mkfs programs.
LABEL_LIMITS: dict[FilesystemType, int] = {
    "ext2": 16,
    "ext3": 16,
    "ext4": 16,
    "xfs": 12,
    "btrfs": 255,
    "vfat": 11,
    "swap": 16,
}

# Smallest size in bytes that the mkfs programs accept with their defaults (xfsprogs 5.19 and later: 300 MB).
SMALLEST: dict[FilesystemType, int] = {
    "ext2": 1 << 20,
    "ext3": 4 << 20,
    "ext4": 4 << 20,
    "xfs": 300 << 20,
    "btrfs": 109 << 20,
    "vfat": 1 << 20,
    "swap": 1 << 20,
}


@dataclass(frozen=True)
class Filesystem:
    """A file system (or swap area) as wanted.

    ``mount`` is a normal absolute path, ``"swap"``, or ``None`` for one that is made but not mounted. ``images`` are
    the names of the images it belongs to. ``fat32`` asks for that kind of vfat, as firmware does of an ESP.
    ``from_image`` says that it is not made but arrives inside a block image, and may be of another type then.
    """

    type: FilesystemType
    mount: str | None = None
    label: str | None = None
    fstab_enabled: bool = True
    fstab_options: str = "defaults"
    keep_data: bool = True
    fat32: bool = False
    from_image: bool = False
    images: tuple[str, ...] = ()
    path: str = field(default="$", compare=False)
