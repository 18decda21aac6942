# SPDX-License-Identifier: Apache-2.0
"""File systems and swap areas: the mkfs family. Each gets the UUID that was decided for it."""

from __future__ import annotations

from bareon.run import run

_PROGRAM: dict[str, str] = {
    "ext2": "mkfs.ext2",
    "ext3": "mkfs.ext3",
    "ext4": "mkfs.ext4",
    "xfs": "mkfs.xfs",
    "btrfs": "mkfs.btrfs",
    "vfat": "mkfs.vfat",
    "swap": "mkswap",
}
_TIMEOUT = 1800.0  # seconds; a slow disk of many TB discards or initialises for a while


def program(kind: str) -> str:
    """The program that makes such a file system."""
    return _PROGRAM[kind]


def argv(kind: str, device: str, uuid: str, label: str | None, *, fat32: bool = False) -> list[str]:
    """The command that makes it. For vfat ``uuid`` is the volume id, as ``ABCD-0123``."""
    command = [_PROGRAM[kind]]
    if kind in ("ext2", "ext3", "ext4"):
        command += ["-q", "-F", "-U", uuid, *(["-L", label] if label else [])]
    elif kind == "xfs":
        command += ["-q", "-f", "-m", f"uuid={uuid}", *(["-L", label] if label else [])]
    elif kind == "btrfs":
        command += ["-q", "-f", "-U", uuid, *(["-L", label] if label else [])]
    elif kind == "vfat":
        command += ["-F", "32"] if fat32 else []
        command += ["-i", uuid.replace("-", ""), *(["-n", label] if label else [])]
    else:
        command += ["-f", "-q", "-U", uuid, *(["-L", label] if label else [])]
    return [*command, device]


def make(kind: str, device: str, uuid: str, label: str | None, *, fat32: bool = False) -> None:
    """Make it, whatever was there before."""
    run(argv(kind, device, uuid, label, fat32=fat32), timeout=_TIMEOUT)
