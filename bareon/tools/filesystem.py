# SPDX-License-Identifier: Apache-2.0
"""File systems and swap areas, each by its own tools: made, checked, given an identity, grown to their device.

What differs between them is a :class:`Family` each. UUIDs are those that were decided; of vfat they are volume ids,
such as ``ABCD-0123``.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from bareon.run import run
from bareon.tools.mount import mounted

_MAKING = 1800.0  # seconds; a slow disk of many TB discards or initialises for a while
_LONG = 4 * 3600.0  # seconds; a check of many TB


class Family(ABC):
    """File systems that one set of programs knows. ``programs`` are those for one that is already there."""

    programs: ClassVar[tuple[str, ...]]

    @abstractmethod
    def options(self, uuid: str, label: str | None, *, fat32: bool, groups: int | None) -> list[str]:
        """The options of mkfs(8), the device left out."""

    @abstractmethod
    def check(self, device: str, point: str) -> None:
        """See :func:`check`."""

    @abstractmethod
    def identify(self, device: str, uuid: str, label: str | None) -> None:
        """See :func:`identify`."""

    @abstractmethod
    def grow(self, device: str, point: str) -> bool:
        """See :func:`grow`."""


class _Ext(Family):
    programs = ("e2fsck", "tune2fs", "resize2fs")

    def options(self, uuid: str, label: str | None, *, fat32: bool, groups: int | None) -> list[str]:
        return ["-q", "-F", "-U", uuid, *_labelled(label)]

    def check(self, device: str, point: str) -> None:
        run(["e2fsck", "-f", "-p", device], ok=(0, 1), timeout=_LONG)

    def identify(self, device: str, uuid: str, label: str | None) -> None:
        run(["tune2fs", "-U", uuid, *_labelled(label), device], timeout=_LONG)

    def grow(self, device: str, point: str) -> bool:
        run(["resize2fs", device], timeout=_LONG)
        return True


class _Xfs(Family):
    programs = ("xfs_repair", "xfs_admin", "xfs_growfs")

    def options(self, uuid: str, label: str | None, *, fat32: bool, groups: int | None) -> list[str]:
        data = [] if groups is None else ["-d", f"agcount={groups}"]
        return ["-q", "-f", "-m", f"uuid={uuid}", *data, *_labelled(label)]

    def check(self, device: str, point: str) -> None:
        # Only the kernel replays a log that was left behind, and xfs_repair refuses to go on without.
        with mounted(device, point, kind="xfs", options="nouuid"):
            pass
        run(["xfs_repair", "-n", device], timeout=_LONG)

    def identify(self, device: str, uuid: str, label: str | None) -> None:
        run(["xfs_admin", "-U", uuid, *_labelled(label), device], timeout=_LONG)

    def grow(self, device: str, point: str) -> bool:
        with mounted(device, point, kind="xfs"):
            run(["xfs_growfs", point], timeout=_LONG)
        return True


class _Btrfs(Family):
    programs = ("btrfs", "btrfstune")

    def options(self, uuid: str, label: str | None, *, fat32: bool, groups: int | None) -> list[str]:
        return ["-q", "-f", "-U", uuid, *_labelled(label)]

    def check(self, device: str, point: str) -> None:
        run(["btrfs", "check", "--readonly", device], timeout=_LONG)

    def identify(self, device: str, uuid: str, label: str | None) -> None:
        run(["btrfstune", "-f", "-U", uuid, device], timeout=_LONG)
        if label:
            run(["btrfs", "filesystem", "label", device, label])

    def grow(self, device: str, point: str) -> bool:
        with mounted(device, point, kind="btrfs"):
            run(["btrfs", "filesystem", "resize", "max", point], timeout=_LONG)
        return True


class _Vfat(Family):
    programs = ("fsck.vfat", "fatlabel")

    def options(self, uuid: str, label: str | None, *, fat32: bool, groups: int | None) -> list[str]:
        size = ["-F", "32"] if fat32 else []
        return [*size, "-i", uuid.replace("-", ""), *(["-n", label] if label else [])]

    def check(self, device: str, point: str) -> None:
        run(["fsck.vfat", "-a", device], ok=(0, 1), timeout=_LONG)

    def identify(self, device: str, uuid: str, label: str | None) -> None:
        run(["fatlabel", "-i", device, uuid.replace("-", "")])
        if label:
            run(["fatlabel", device, label])

    def grow(self, device: str, point: str) -> bool:
        return False  # no common tool can


def _labelled(label: str | None) -> list[str]:
    return ["-L", label] if label else []


_EXT = _Ext()
_FAMILIES: dict[str, Family] = {
    **dict.fromkeys(("ext2", "ext3", "ext4"), _EXT),
    "xfs": _Xfs(),
    "btrfs": _Btrfs(),
    "vfat": _Vfat(),
}
KINDS = tuple(_FAMILIES)
"""The types that can be checked, given an identity and grown: all but swap."""


def maker(kind: str) -> str:
    """The program that makes a file system or swap area of a type."""
    return "mkswap" if kind == "swap" else f"mkfs.{kind}"


def programs(kind: str) -> tuple[str, ...]:
    """The programs for a file system of one of :data:`KINDS` that is already there."""
    return _FAMILIES[kind].programs


def version(kind: str) -> tuple[int, int] | None:
    """The two first numbers of the version of a type's mkfs; ``None`` where it does not say."""
    said = run([maker(kind), "-V"])
    found = re.search(r"\bv?(\d+)\.(\d+)", f"{said.stdout}\n{said.stderr}")
    return (int(found[1]), int(found[2])) if found else None


def make(
    kind: str,
    device: str,
    uuid: str,
    label: str | None,
    *,
    fat32: bool = False,
    groups: int | None = None,
    more: Sequence[str] = (),
    beside: Sequence[str] = (),
) -> None:
    """Make a file system or swap area, whatever was there before.

    :param fat32: of vfat: make it FAT32, as firmware asks of an ESP.
    :param groups: of xfs: the number of allocation groups, ``None`` for its own choice.
    :param more: arguments beside those for all this.
    :param beside: of btrfs: more devices that it is to lie on.
    """
    if kind == "swap":
        options = ["-f", "-q", "-U", uuid, *_labelled(label)]
    else:
        options = _FAMILIES[kind].options(uuid, label, fat32=fat32, groups=groups)
    run([maker(kind), *options, *more, device, *beside], timeout=_MAKING)


def check(kind: str, device: str, point: str) -> None:
    """Check a file system that nobody has mounted, and repair whatever its fsck repairs non-interactively.

    :param point: a folder to mount it on.
    :raises CommandError: when it is damaged.
    """
    _FAMILIES[kind].check(device, point)


def identify(kind: str, device: str, uuid: str, label: str | None) -> None:
    """Give a file system that was checked a UUID and, if asked, a label."""
    _FAMILIES[kind].identify(device, uuid, label)


def grow(kind: str, device: str, point: str) -> bool:
    """Let a file system that was checked fill its device; ``False`` for vfat, which no common tool can grow.

    :param point: a folder to mount it on: xfs and btrfs grow while mounted.
    """
    return _FAMILIES[kind].grow(device, point)
