# SPDX-License-Identifier: Apache-2.0
"""Paths below a folder, looked up as a system would whose root it is: path_resolution(7), chroot(2).

Step by step, by descriptors: what was looked at is what is opened, whatever takes its place meanwhile. Nothing is
opened on the way, not even a folder, and of a link only its text is read.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import PurePosixPath

DEEPEST = 100
"""Folders in each other, each of which takes a descriptor."""

MOST = 10_000
"""Names in a folder."""

_LINKS = 40  # that are followed, as the kernel does
_LOOK = os.O_PATH | os.O_NOFOLLOW
#: A link may name what no file system can hold.
_ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG)


@dataclass(frozen=True)
class Entry:
    """What was found: a descriptor that holds it without opening it, and the way there, without links."""

    fd: int
    path: PurePosixPath
    mode: int

    @property
    def name(self) -> str:
        """A name of the very thing that was found, for calls that take no descriptor of this kind."""
        return f"/proc/self/fd/{self.fd}"

    def open(self) -> int:
        """Open a file or folder for reading: the very one that was looked at.

        :raises OSError: for what is neither. To open a device is to do something, and a FIFO waits.
        """
        if stat.S_ISDIR(self.mode):
            return os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=self.fd)
        if not stat.S_ISREG(self.mode):
            raise OSError(errno.EINVAL, "no file")
        return os.open(self.name, os.O_RDONLY | os.O_NONBLOCK)


def names(folder: Entry, most: int | None = None) -> list[str]:
    """The names in a folder, sorted.

    :param most: how many there may be, by default :data:`MOST`.
    :raises OSError: when there are more.
    """
    limit = MOST if most is None else most
    fd = folder.open()
    try:
        with os.scandir(fd) as found:
            there = [x.name for x in islice(found, limit + 1)]
    finally:
        os.close(fd)
    if len(there) > limit:
        raise OSError(errno.E2BIG, f"there are more than {limit} names")
    return sorted(there)


def entry(name: str, folder: int | None, path: PurePosixPath) -> Entry:
    """What has a name in a folder, a link itself; the caller closes it."""
    fd = os.open(name, _LOOK, dir_fd=folder)
    return Entry(fd, path, os.fstat(fd).st_mode)


@contextlib.contextmanager
def looked_up(root: str, path: str) -> Iterator[Entry | None]:
    """Follow a path, and links, inside ``root``; ``None`` for what does not exist or turns in a circle.

    :raises OSError: when that cannot be told, for instance since the disk fails.
    """
    way: list[Entry] = []
    try:
        yield _end(root, PurePosixPath(path), way)
    finally:
        _back(way, 0)


def _end(root: str, path: PurePosixPath, way: list[Entry]) -> Entry | None:
    try:
        way.append(entry(root, None, PurePosixPath("/")))
        return way[-1] if _follow(list(path.parts[1:]), way) else None
    except OSError as error:
        if error.errno in _ABSENT:
            return None
        raise


def _follow(parts: list[str], way: list[Entry]) -> bool:
    """Go on from the end of ``way``; false for what leads nowhere."""
    links = 0
    while parts:
        part, here = parts.pop(0), way[-1]
        if not stat.S_ISDIR(here.mode):
            return False
        if part == "..":  # which the kernel is not asked for: somebody may have moved the folder
            _back(way, max(len(way) - 1, 1))
            continue
        way.append(entry(part, here.fd, here.path / part))
        if stat.S_ISLNK(way[-1].mode):
            links += 1
            target = PurePosixPath(os.readlink("", dir_fd=way[-1].fd))
            _back(way, 1 if target.is_absolute() else len(way) - 1)
            parts = [*(target.parts[1:] if target.is_absolute() else target.parts), *parts]
        if links > _LINKS or len(way) > DEEPEST:
            return False
    return True


def _back(way: list[Entry], length: int) -> None:
    while len(way) > length:
        os.close(way.pop().fd)


def below(
    folder: int, path: PurePosixPath, *, most: int | None = None, left_out: Callable[[Entry], bool] = lambda _: False
) -> Generator[tuple[Entry, Entry]]:
    """Each thing in a folder and in those in it, links as such, with the folder that it is in.

    Descriptors are valid until the next one is asked for. That of the folder is closed in the end.

    :param most: names in a folder.
    :param left_out: what is passed over, with all that is in it.
    :raises OSError: when there are more folders in each other than :data:`DEEPEST`, or too many names.
    """
    way = [Entry(folder, path, stat.S_IFDIR)]
    try:
        waiting = [iter(names(way[0], most))]
        while waiting:
            if (name := next(waiting[-1], None)) is None:
                waiting.pop()
                _back(way, len(way) - 1)
                continue
            way.append(entry(name, way[-1].fd, way[-1].path / name))
            if left_out(way[-1]):
                _back(way, len(way) - 1)
                continue
            yield way[-1], way[-2]
            if stat.S_ISDIR(way[-1].mode):
                if len(way) > DEEPEST:
                    raise OSError(errno.ELOOP, f"there are more than {DEEPEST} folders in each other")
                waiting.append(iter(names(way[-1], most)))
            else:
                _back(way, len(way) - 1)
    finally:
        _back(way, 0)
