# SPDX-License-Identifier: Apache-2.0
"""File systems that are already there: checked, given an identity, grown to their device. Each by its own tools."""

from __future__ import annotations

from bareon.run import run
from bareon.tools.mount import mounted

_EXT = ("ext2", "ext3", "ext4")
_PROGRAMS = {
    **dict.fromkeys(_EXT, ("e2fsck", "tune2fs", "resize2fs")),
    "xfs": ("xfs_repair", "xfs_admin", "xfs_growfs"),
    "btrfs": ("btrfs", "btrfstune"),
    "vfat": ("fsck.vfat", "fatlabel"),
}
KINDS = tuple(_PROGRAMS)
_LONG = 4 * 3600.0  # seconds; a check of many TB


def programs(kind: str) -> tuple[str, ...]:
    """The programs for one kind of file system."""
    return _PROGRAMS[kind]


def check(kind: str, device: str, point: str) -> None:
    """See that a file system that nobody has mounted is sound. What its own tool mends without asking is mended.

    :param point: a folder to mount it on.
    :raises CommandError: when it is damaged.
    """
    if kind in _EXT:
        run(["e2fsck", "-f", "-p", device], ok=(0, 1), timeout=_LONG)
    elif kind == "xfs":
        # Only the kernel replays a log that was left behind, and xfs_repair refuses to go on without.
        with mounted(device, point, kind="xfs", options="nouuid"):
            pass
        run(["xfs_repair", "-n", device], timeout=_LONG)
    elif kind == "btrfs":
        run(["btrfs", "check", "--readonly", device], timeout=_LONG)
    else:
        run(["fsck.vfat", "-a", device], ok=(0, 1), timeout=_LONG)


def identify(kind: str, device: str, uuid: str, label: str | None) -> None:
    """Give a file system that was checked a UUID (of vfat: a volume id, as ``ABCD-0123``) and, if asked, a label."""
    if kind in _EXT:
        run(["tune2fs", "-U", uuid, *(["-L", label] if label else []), device], timeout=_LONG)
    elif kind == "xfs":
        run(["xfs_admin", "-U", uuid, *(["-L", label] if label else []), device], timeout=_LONG)
    elif kind == "btrfs":
        run(["btrfstune", "-f", "-U", uuid, device], timeout=_LONG)
        if label:
            run(["btrfs", "filesystem", "label", device, label])
    else:
        run(["fatlabel", "-i", device, uuid.replace("-", "")])
        if label:
            run(["fatlabel", device, label])


def grow(kind: str, device: str, point: str) -> bool:
    """Let a file system that was checked fill its device; ``False`` for vfat, which no common tool can grow.

    :param point: a folder to mount it on: xfs and btrfs grow while mounted.
    """
    if kind in _EXT:
        run(["resize2fs", device], timeout=_LONG)
    elif kind == "xfs":
        with mounted(device, point, kind="xfs"):
            run(["xfs_growfs", point], timeout=_LONG)
    elif kind == "btrfs":
        with mounted(device, point, kind="btrfs"):
            run(["btrfs", "filesystem", "resize", "max", point], timeout=_LONG)
    return kind != "vfat"
