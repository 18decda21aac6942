# SPDX-License-Identifier: Apache-2.0
"""What the listing of a tree of files says of the volumes that it is to be spread over.

A :class:`Survey` is told of each entry once and keeps sums, not entries, so that a tree of millions of files takes
no more memory than a small one. Only what is to lie on vfat is kept by name, and files with names on several volumes.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from bareon.drivers.deploy.vfat import Vfat
from bareon.storage.filesystem import Mounted
from bareon.system.tree import holder, holds
from bareon.tools import rsync

# Bytes that a file takes at least, in whole ones of these, by the type of its file system; btrfs packs small files.
# mke2fs chooses 1024 for small file systems, and may be told to for others.
_BLOCKS = {"ext2": 1024, "ext3": 1024, "ext4": 1024, "xfs": 4096, "vfat": 512}
_NAMED = 5  # paths that are named
_KINDS = {"f": "a file", "d": "a folder", "L": "a link", "D": "a device", "S": "a socket or fifo"}


@dataclass
class Share:
    """The part of a tree that lies on one volume, and what the listing says of it.

    ``folder`` is the volume's place in the image's tree, without a slash at its ends; ``apart`` are the places in it
    of other volumes. ``files`` counts inodes, ``bytes`` is the least that they take. ``largest`` is size and path of
    the largest file. ``present`` says whether the tree has the folder at all. ``names`` are the first paths of one on
    a volume that is left.
    """

    mount: Mounted
    folder: str
    apart: tuple[str, ...]
    present: bool = False
    files: int = 0
    bytes: int = 0
    largest: tuple[int, str] = (0, "")
    lost: Vfat | None = None
    names: list[str] = field(default_factory=list)

    def take(self, path: str, entry: rsync.Entry) -> None:
        """Count an entry, whose path is that in the deployed system."""
        if path != self.mount.point:
            self.files += 1
            if self.mount.left and len(self.names) < _NAMED:
                self.names.append(path)
        if entry.kind == "f":
            block = _BLOCKS.get(self.mount.type, 1)
            self.bytes += -(-entry.size // block) * block
            if entry.size > self.largest[0]:
                self.largest = entry.size, path
        if self.lost is not None:
            self.lost.take(path, entry)


class Survey:
    """All that a listing says of an image's tree, brought to ``target`` on ``mounts``."""

    def __init__(self, target: str, mounts: Sequence[Mounted]) -> None:
        top = holder(target, mounts)
        inside = [top, *(x for x in mounts if x.point != top.point and holds(target, x.point))]
        self.target = target
        self._top = target.rstrip("/") or "/"
        self._before = f"{target.rstrip('/')}/"
        self.shares = tuple(_share(mount, target, inside) for mount in inside)
        self.shares[0].present = True
        self.entries = 0
        #: Mount points, and folders on the way to them, that are something else in the tree: kind and link.
        self.instead: dict[str, tuple[str, str | None]] = {}
        #: The number of files with names on several volumes, and two names of one of them.
        self.torn = 0
        self.torn_names: tuple[str, str] | None = None
        self._copied: set[tuple[str, str]] = set()
        self._by_point = {share.mount.point: share for share in self.shares}
        self._ways = {way for x in inside[1:] for way in _ways(x.point) if way != target and holds(target, way)}
        self._last: tuple[str, Share] = "", self.shares[0]

    def take(self, entry: rsync.Entry) -> None:
        """Count an entry of the listing."""
        path = self.deployed(entry.path)
        share = self.holding(path)
        self.entries += not share.mount.left
        if path in self._ways and entry.kind != "d":
            self.instead[path] = entry.kind, entry.link
        if path == share.mount.point or not entry.path:
            share.present = True
        if entry.same is None:
            share.take(path, entry)
            return
        other = self.deployed(entry.same)
        if share.lost is not None:  # each name is a file of its own there, and a link remains one
            share.take(path, entry._replace(link=other) if entry.kind == "L" else entry)
        elif self.holding(other) is not share and (share.mount.point, other) not in self._copied:
            self._copied.add((share.mount.point, other))
            share.take(path, entry)
            self.torn += 1
            self.torn_names = self.torn_names or (other, path)

    def forget(self, path: str) -> None:
        """Count an entry no more, of a path in the deployed system, whose bytes still count."""
        self.entries -= 1
        self.holding(path).files -= 1

    def deployed(self, path: str) -> str:
        """A path of the image's tree as the deployed system has it."""
        return f"{self._before}{path}" if path else self._top

    def holding(self, path: str) -> Share:
        """The share that a path of the deployed system lies in."""
        if len(self.shares) == 1:
            return self.shares[0]
        if found := self._by_point.get(path):
            return found
        folder = posixpath.dirname(path)
        if self._last[0] != folder:  # files of a folder come one after the other
            self._last = folder, self._by_point[holder(folder, [x.mount for x in self.shares]).point]
        return self._last[1]

    def left_out(self) -> dict[str, str]:
        """What does not come, for an outcome: it would lie on volumes that are left."""
        found = []
        for share in (x for x in self.shares if x.files and x.mount.left):
            more = f" and {share.files - len(share.names)} more" if share.files > len(share.names) else ""
            found.append(f"{', '.join(share.names)}{more}")
        return {"left out of volumes in use": "; ".join(found)} if found else {}

    def notes(self) -> Iterator[str]:
        """What will not be as in the image, and is no reason to refuse it."""
        for words in self.left_out().values():
            yield f"left out, as it would lie on a volume in use: {words}"
        if self.torn_names:
            first, second = self.torn_names
            yield f"hard links across volumes become copies: {self.torn}, such as {first} and {second}"
        for share in self.shares:
            if share.lost and share.lost.owned:
                yield f"vfat at {share.mount.point} has no owners: files that become root's: {share.lost.owned}"


def _share(mount: Mounted, target: str, inside: Sequence[Mounted]) -> Share:
    own = [x for x in inside if x.point != mount.point and holds(mount.point, x.point) and holds(target, x.point)]
    folder = posixpath.relpath(mount.point, target) if holds(target, mount.point) else "."
    apart = tuple(posixpath.relpath(x.point, target) for x in own)
    lost = Vfat(mount.point) if mount.type == "vfat" else None
    return Share(mount, "" if folder == "." else folder, apart, lost=lost)


def _ways(point: str) -> Iterator[str]:
    """A mount point, and the folders on the way to it."""
    while point != "/":
        yield point
        point = posixpath.dirname(point)


def described(kind: str, link: str | None) -> str:
    """What an entry is, in words."""
    return f"a link to {link}" if link is not None else _KINDS.get(kind, "something else")


def listed(names: Sequence[str]) -> str:
    """The first of some names, and how many more there are."""
    more = [f"{len(names) - _NAMED} more"] if len(names) > _NAMED else []
    return ", ".join([*names[:_NAMED], *more])
