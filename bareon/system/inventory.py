# SPDX-License-Identifier: Apache-2.0
"""An inventory of a volume: all that lies on it, with what a manifest says of it; and where that differs."""

from __future__ import annotations

import fnmatch
import hashlib
import os
import re
import stat
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from bareon.errors import ActionFailed
from bareon.sizes import MIB
from bareon.system import metadata
from bareon.system.lookup import Entry, below
from bareon.system.mtree import Thing, encoded, vis
from bareon.text import visible

#: Names in a folder: they are sorted in memory.
_MOST = 1_000_000
_TYPES = {
    **{stat.S_IFREG: "file", stat.S_IFDIR: "dir", stat.S_IFLNK: "link", stat.S_IFIFO: "fifo"},
    **{stat.S_IFSOCK: "socket", stat.S_IFCHR: "char", stat.S_IFBLK: "block"},
}
#: What has no meaning, or another one each time: a folder's size is its file system's affair.
_SIZED = ("file",)

EXCLUDED = (
    *("/dev/*", "/proc/*", "/run/*", "/sys/*", "/tmp/*"),
    *("/home/*", "/root/*", "/srv/*", "/var/*", "*/lost+found", "*/__pycache__"),
    *("/etc/bareon", "/etc/machine-id", "/etc/hostname", "/etc/hosts", "/etc/resolv.conf", "/etc/mtab"),
    *("/etc/adjtime", "/etc/.pwd.lock", "/etc/.updated", "/etc/ssh/ssh_host_*"),
    *("*/grub/grubenv", "*/grub2/grubenv", "*/loader/random-seed"),
)
"""What systems change by themselves, as globs of which ``*`` stands for slashes, too."""


@dataclass
class Inventory:
    """An inventory of the volume that is mounted at ``folder``, and lies at ``point`` in its system.

    ``points`` are the mount points of its system: other volumes lie there. ``left_out`` counts what ``exclude`` has
    passed over, folders with all that is in them as one; ``size`` the bytes that were read.
    """

    folder: str
    point: str
    points: Collection[str]
    exclude: Collection[str]
    progress: Callable[[int], None] = lambda _: None
    left_out: int = field(default=0, init=False)
    size: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self._globs = re.compile("|".join(fnmatch.translate(x) for x in self.exclude) or r"(?!)", re.DOTALL)

    def things(self) -> Iterator[tuple[Thing, Entry]]:
        """All that lies there, in order, without digests. The entry is valid until the next is asked for.

        :raises ActionFailed: when that cannot be read.
        """
        path = "/"
        try:
            folder = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
            own = Entry(folder, PurePosixPath(self.point), stat.S_IFDIR)
            yield self._thing(own), own
            for found, _ in below(folder, own.path, most=_MOST, left_out=self._is_left_out):
                path = str(found.path)
                yield self._thing(found), found
        except OSError as error:
            raise ActionFailed(f"cannot read all files of {visible(path)}: {error.strerror}") from error

    def digest(self, entry: Entry) -> str:
        """The SHA-256 of a regular file, in hexadecimal.

        :raises ActionFailed: when it cannot be read.
        """
        digest = hashlib.sha256()
        try:
            with os.fdopen(entry.open(), "rb", buffering=0) as file:
                while piece := file.read(MIB):
                    digest.update(piece)
                    self.size += len(piece)
                    self.progress(self.size)
        except OSError as error:
            raise ActionFailed(f"cannot read {visible(str(entry.path))}: {error.strerror}") from error
        return digest.hexdigest()

    def _is_left_out(self, entry: Entry) -> bool:
        path = str(entry.path)
        if path in self.points:
            return True
        excluded = self._globs.match(path) is not None
        self.left_out += excluded
        return excluded

    def _thing(self, entry: Entry) -> Thing:
        found = os.fstat(entry.fd)
        kind = _TYPES[stat.S_IFMT(found.st_mode)]
        facts = {"type": kind, "mode": f"{stat.S_IMODE(found.st_mode):04o}"}
        facts |= {"uid": str(found.st_uid), "gid": str(found.st_gid)}
        if kind in _SIZED:
            facts["size"] = str(found.st_size)
        if kind == "link":
            facts["link"] = vis(os.readlink("", dir_fd=entry.fd))
        if kind in ("char", "block"):
            facts["device"] = f"linux,{os.major(found.st_rdev)},{os.minor(found.st_rdev)}"
        if kind in ("file", "dir"):  # those of others cannot be had by a descriptor
            for name in sorted(metadata.names(entry.name)):
                facts[f"xattr.{vis(name)}"] = encoded(os.getxattr(entry.name, name))
        return Thing(str(entry.path), facts)


def drift(wanted: Iterator[Thing], inventory: Inventory) -> Iterator[str]:
    """Where a volume differs from its part of a manifest: a line for each thing, in mtree's words.

    Of a folder that is missing or extra, what is in it is not told.
    """
    expected, hidden = next(wanted, None), ""
    for found, entry in inventory.things():
        while expected and _key(expected) < _key(found):
            if not _holds(hidden, expected.path):
                yield f"{_name(expected)} is missing"
                hidden = expected.path
            expected = next(wanted, None)
        if expected and expected.path == found.path:
            if words := _changes(expected, found, entry, inventory):
                yield f"{_name(found)}: {'; '.join(words)}"
                if expected.facts["type"] != found.facts["type"]:
                    hidden = found.path
            expected = next(wanted, None)
        elif not _holds(hidden, found.path):
            yield f"{_name(found)} is extra"
            hidden = found.path
    while expected:
        if not _holds(hidden, expected.path):
            yield f"{_name(expected)} is missing"
            hidden = expected.path
        expected = next(wanted, None)


def _changes(expected: Thing, found: Thing, entry: Entry, inventory: Inventory) -> list[str]:
    """How a thing is another one than it was."""
    one, other = dict(expected.facts), dict(found.facts)
    digest = one.pop("sha256digest", None)
    words = [
        f"{visible(name)}: expected {_shown(name, one.get(name))}, found {_shown(name, other.get(name))}"
        for name in sorted({*one, *other})
        if one.get(name) != other.get(name)
    ]
    same_size = one["type"] == other["type"] == "file" and one.get("size") == other.get("size")
    if digest and same_size and inventory.digest(entry) != digest:
        words.append("its content has changed (sha256digest)")
    return words


def _shown(name: str, value: str | None) -> str:
    """A value for people: what attributes hold is nobody's business."""
    return "none" if value is None else "another value" if name.startswith("xattr.") else visible(value)


def _key(thing: Thing) -> tuple[str, ...]:
    """The order in which folders are walked."""
    return PurePosixPath(thing.path).parts


def _holds(folder: str, path: str) -> bool:
    return bool(folder) and path.startswith(f"{folder}/")


def _name(thing: Thing) -> str:
    return visible(thing.path)
