# SPDX-License-Identifier: Apache-2.0
"""What a file has besides its content: owner, mode, ACL and other extended attributes, and the label of SELinux."""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass, field

LABEL = "security.selinux"
"""The extended attribute with the label of SELinux; selinux(8)."""

_ACL = "system.posix_acl_access"
#: These tell what the content is, or what a program may do: both end with the content.
_OF_CONTENT = frozenset({"security.capability", "security.ima", "security.evm"})
#: There are none on this file system, or whoever runs must not set them.
_UNABLE = (errno.ENOTSUP, errno.EPERM, errno.EINVAL)


@dataclass(frozen=True)
class Metadata:
    """That of a file. ``owner`` is (user, group), ``None`` for the one who writes."""

    mode: int
    owner: tuple[int, int] | None = None
    attributes: dict[str, bytes] = field(default_factory=dict)

    def give(self, fd: int) -> None:
        """Give it to a file that was just made.

        :raises OSError: when there is no room for the attributes.
        """
        found = os.fstat(fd)
        if self.owner and self.owner != (found.st_uid, found.st_gid):
            os.fchown(fd, *self.owner)
        if _ACL in names(fd) and _ACL not in self.attributes:  # made by the default of its folder
            os.removexattr(fd, _ACL)
        for name, value in self.attributes.items():
            put(fd, name, value)
        os.fchmod(fd, self.mode)


def of(name: str, folder: int, mode: int | None = None) -> Metadata:
    """That of a file that is about to be written in an open folder.

    A regular file keeps its own. What takes the place of anything else gets the label of its folder, as the kernel of
    an SELinux system would do.

    :param mode: the one that it gets in any case; without it, a new file gets 0644.
    """
    fd = _looked_at(name, folder)
    if fd is None:
        return Metadata(0o644 if mode is None else mode, None, label(folder))
    try:
        found = os.fstat(fd)
        there = f"/proc/self/fd/{fd}"
        kept = {x: os.getxattr(there, x) for x in names(there) if x not in _OF_CONTENT}
    finally:
        os.close(fd)
    if LABEL not in kept:
        kept |= label(folder)
    return Metadata(found.st_mode & 0o777 if mode is None else mode, (found.st_uid, found.st_gid), kept)


def private(folder: int) -> Metadata:
    """That of a new file in an open folder, which only the one who writes it may read."""
    return Metadata(0o600, (os.geteuid(), os.getegid()), label(folder))


def _looked_at(name: str, folder: int) -> int | None:
    """A descriptor of the regular file of that name, which opens nothing; ``None`` for anything else."""
    try:
        fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    except OSError:  # writing to it tells what is wrong
        return None
    if stat.S_ISREG(os.fstat(fd).st_mode):
        return fd
    os.close(fd)
    return None


def names(file: int | str) -> list[str]:
    """The names of the extended attributes of a file, none on a file system without any."""
    try:
        return os.listxattr(file)
    except OSError as error:
        if error.errno in _UNABLE:
            return []
        raise


def label(file: int | str) -> dict[str, bytes]:
    """The label of a file as an attribute; none where it has none."""
    return {LABEL: os.getxattr(file, LABEL)} if LABEL in names(file) else {}


def put(file: int | str, name: str, value: bytes) -> None:
    """Set an extended attribute, where that can be.

    :raises OSError: when there is no room for it.
    """
    try:
        os.setxattr(file, name, value)
    except OSError as error:
        if error.errno not in _UNABLE:
            raise


def inherit(file: int | str, folder: int | str) -> None:
    """Give a new file or folder the label of the folder that it is in.

    :raises OSError: when there is no room for it.
    """
    for name, value in label(folder).items():
        put(file, name, value)
