# SPDX-License-Identifier: Apache-2.0
"""A volume with vfat as the place of a part of an image: what it cannot hold, and how the rest is brought to it.

It has no owners, modes, links, special files and attributes, and it knows no case. A ``/boot`` can do without.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass, field

from bareon.system.tree import Tree, holds
from bareon.tools import rsync

#: Options for rsync behind those asked for. Times are in steps of two seconds.
FLAGS = (
    *("--no-owner", "--no-group", "--no-perms", "--no-acls", "--no-xattrs", "--no-links", "--no-devices"),
    *("--no-specials", "--no-hard-links", "--modify-window=1"),
)

_LARGEST = (4 << 30) - 1  # bytes; the field for a file's size has 32 bits
_LONGEST = 255  # UTF-16 code units
_SLOT = 13  # of which a slot of a folder holds so many
_SHORT = 12  # characters of NAME.EXT at most, which takes one slot
_FORBIDDEN = frozenset('"*:<>?\\|') | frozenset(map(chr, range(32)))
_LINKS = 40  # that are followed; path_resolution(7)


@dataclass
class Vfat:
    """What a part of a tree has that vfat at the mount point ``point`` does not hold.

    ``reasons`` say why it cannot be brought there. ``links`` are symbolic links by their paths in the deployed
    system, and where they lead. ``owned`` counts entries whose owner is not root. ``slots`` is how much of the top
    folder, whose size is fixed where it is no FAT32, they take at least.
    """

    point: str
    reasons: list[str] = field(default_factory=list)
    links: dict[str, str] = field(default_factory=dict)
    owned: int = 0
    slots: int = 0
    _names: dict[str, str] = field(default_factory=dict)

    def take(self, path: str, entry: rsync.Entry) -> None:
        """Look at an entry, whose path is that in the deployed system."""
        if path == self.point:
            return
        folder, name = posixpath.split(path)
        units = len(name.encode("utf-16-le", "surrogatepass")) // 2
        self.owned += entry.owner != "0:0"
        other = self._names.setdefault(path.lower(), path)
        if other != path:  # a link's too: its copy would replace the other file
            self.reasons.append(f"{other} and {path} are the same name to vfat, which knows no case")
        if entry.link is not None:
            self.links[path] = entry.link
            return
        self.slots += folder == self.point and (1 if units <= _SHORT else 1 - (-units // _SLOT))
        if entry.kind in ("D", "S"):
            self.reasons.append(f"vfat cannot hold {path}, a special file")
        elif entry.kind == "f" and entry.size > _LARGEST:
            self.reasons.append(f"vfat cannot hold {path}, which has 4 GiB or more")
        elif _FORBIDDEN & set(name) or name[-1] in ". ":
            self.reasons.append(f"vfat cannot hold the name {path}")
        elif units > _LONGEST:
            self.reasons.append(f"vfat cannot hold a name as long as {path}")


def replace_links(links: Mapping[str, str], point: str, tree: Tree) -> list[str]:
    """Put a copy in the place of each link that leads to a file of the same volume; what is left out is returned.

    :param point: where the volume is mounted. There are no links on it, so that no path leads out of it.
    :raises ActionFailed: when a copy cannot be written.
    """
    left = []
    for path in sorted(links):
        target = _end(path, links)
        if target is None or not holds(point, target) or not tree.is_file(target):
            left.append(path)
        elif not tree.same(target, path):
            tree.remove(path)  # there may be no room for both
            tree.copy(target, path)
    return left


def _end(path: str, links: Mapping[str, str]) -> str | None:
    """Where a link leads in the end; ``None`` for one that turns in a circle."""
    for _ in range(_LINKS):
        if path not in links:
            return path
        path = posixpath.normpath(posixpath.join(posixpath.dirname(path), links[path]))
    return None
