# SPDX-License-Identifier: Apache-2.0
"""Readers of file systems, and the features that the oldest among them does not know. Features are rows of a table.

What a newer mkfs turns on by itself, an older kernel refuses to mount, and an older GRUB cannot find its files on.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Version = tuple[int, int]
"""The two first numbers of a version: of Linux 6.1.0-18-amd64 (6, 1), of GRUB 2.06 (2, 6)."""


@dataclass(frozen=True, order=True)
class Reader:
    """A program that reads file systems. ``image`` is the one that brings it, ``None`` for what is assumed."""

    name: Literal["Linux", "GRUB"]
    version: Version
    image: str | None = None

    @property
    def number(self) -> str:
        """The version as its program writes it."""
        major, minor = self.version
        return f"{major}.{minor:02}" if self.name == "GRUB" else f"{major}.{minor}"

    def __str__(self) -> str:
        return f"{self.name} {self.number} " + (f"of image {self.image!r}" if self.image else "(assumed)")


LINUX = Reader("Linux", (4, 18))
"""The kernel that is assumed where none is known: that of RHEL 8, the oldest one that is still maintained."""

GRUB = Reader("GRUB", (2, 4))
"""The GRUB that is assumed likewise: that of Ubuntu 20.04. RHEL 8 calls its own 2.02, and has patched in the rest."""

FLOOR = (LINUX, GRUB)


@dataclass(frozen=True)
class Feature:
    """A feature that an mkfs turns on by itself, unless it is told not to.

    ``linux`` is the first kernel that reads and writes a file system with it and does not call that experimental,
    ``grub`` the first GRUB that reads one; ``None`` where GRUB does not look at the feature. ``option`` of mkfs takes
    it, and ``mkfs`` is the first version to be told: an earlier one does not know the word, or never turns it on by
    itself.
    """

    name: str
    linux: Version
    grub: Version | None
    option: str
    mkfs: Version

    def reads(self, reader: Reader) -> bool:
        """True if a reader knows the feature, or never looks at it."""
        first = self.linux if reader.name == "Linux" else self.grub
        return first is None or reader.version >= first


# Kernels: XFS_SB_FEAT_* of fs/xfs/libxfs/xfs_format.h, the experimental warnings of fs/xfs/xfs_super.c, and what
# xfsprogs turns on for each kernel in its mkfs/lts_*.conf: bigtime and inobtcount since lts_5.15, exchange and
# parent since lts_6.18. GRUB: what grub-core/fs/xfs.c has in XFS_SB_FEAT_INCOMPAT_SUPPORTED; it looks at incompatible
# features alone, which finobt, rmapbt, reflink and inobtcount are not. "Accept filesystem with sparse inodes" is in
# 2.04, "Add bigtime incompat feature support" in 2.06, "Add large extent counters incompat feature support" in 2.12,
# and exchange and parent came with "Add new superblock features added in Linux 6.12/6.13" behind 2.12.
_XFS = (
    Feature("finobt", (3, 16), None, "-m", (3, 2)),
    Feature("rmapbt", (4, 16), None, "-m", (4, 8)),
    Feature("reflink", (4, 16), None, "-m", (4, 9)),
    Feature("bigtime", (5, 15), (2, 6), "-m", (5, 10)),
    Feature("inobtcount", (5, 15), None, "-m", (5, 10)),
    Feature("sparse", (4, 10), (2, 4), "-i", (4, 2)),
    Feature("nrext64", (6, 5), (2, 12), "-i", (5, 19)),
    Feature("exchange", (6, 18), (2, 14), "-i", (6, 10)),
    Feature("parent", (6, 18), (2, 14), "-n", (6, 10)),
)

# Kernels: ext4(5). Release notes of e2fsprogs 1.47.0 for both, which it turns on; Debian 12 does not, Debian 13 does.
# GRUB: grub-core/fs/ext2.c, "Ignore checksum seed incompat feature", three days after 2.06. An orphan file is a
# compatible feature, at which it does not look.
_EXT4 = (
    Feature("metadata_csum_seed", (4, 4), (2, 12), "-O", (1, 43)),
    Feature("orphan_file", (5, 15), None, "-O", (1, 47)),
)

# Kernels: the columns "compat" and "safe" of btrfs-progs' common/fsfeatures.c. The release notes of 5.15 turn on
# no-holes and free-space-tree, those of 6.19 block-group-tree, which those from 6.2 on may not even know. GRUB:
# grub-core/fs/btrfs.c, "Make extent item iteration to handle gaps", is behind 2.06; it reads neither of the trees.
_BTRFS = (
    Feature("no-holes", (4, 0), (2, 12), "-O", (5, 15)),
    Feature("block-group-tree", (6, 1), None, "-O", (6, 19)),
    Feature("free-space-tree", (4, 9), None, "-R", (5, 15)),
)

FEATURES: dict[str, tuple[Feature, ...]] = {"xfs": _XFS, "ext4": _EXT4, "btrfs": _BTRFS}
"""The features that are decided on, by the type of the file system. Other types have none."""


def oldest(readers: Iterable[Reader]) -> tuple[Reader, ...]:
    """The oldest kernel and the oldest GRUB among readers, each where there is one."""
    found: dict[str, Reader] = {}
    for reader in readers:
        there = found.setdefault(reader.name, reader)
        if reader.version < there.version:
            found[reader.name] = reader
    return tuple(found.values())


@functools.cache
def unread(kind: str, readers: tuple[Reader, ...]) -> tuple[Feature, ...]:
    """The features of a type of file system that not all readers know."""
    return tuple(x for x in FEATURES.get(kind, ()) if not all(x.reads(reader) for reader in readers))
