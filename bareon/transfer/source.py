# SPDX-License-Identifier: Apache-2.0
"""Sources of an image's bytes: a file or a server, behind one interface."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Protocol

from bareon.errors import ImageFailed
from bareon.model.location import Location
from bareon.transfer.deadline import Deadline, Stopped
from bareon.transfer.failure import NotThere

_DROPPED = 1 << 20  # bytes read at once to be dropped


class Source(Protocol):
    """The bytes of an image as they are served.

    ``length`` is known once a byte was read, ``None`` where the server does not tell. ``attempts`` counts
    connections. ``offset`` is how many bytes the stream has given.
    """

    @property
    def length(self) -> int | None: ...

    @property
    def attempts(self) -> int: ...

    @property
    def offset(self) -> int: ...

    def begin(self, offset: int, length: int | None) -> None:
        """Go on at ``offset`` with what another source has begun to give, of ``length`` bytes in all."""

    def fill(self, buffer: memoryview) -> int:
        """Read on until the buffer is full or the image ends; 0 is the end. Raises ImageFailed and Stopped."""

    def read_at(self, offset: int, length: int) -> bytes | None:
        """Exactly these bytes, beside the stream; ``None`` where the server gives no parts."""

    def close(self) -> None:
        """End it, from any thread; a read under way ends soon."""


class Skippable(Source, Protocol):
    """A source that need not give all of its bytes."""

    def skip(self, offset: int) -> None:
        """Go on at ``offset``, which lies further on, without what is between; a byte was read before.

        Where the server gives no parts, it is read and dropped.
        """


def drop(source: Source, offset: int) -> None:
    """Read a source up to ``offset``, for nothing."""
    buffer = memoryview(bytearray(_DROPPED))
    while (left := offset - source.offset) > 0 and source.fill(buffer[:left]):
        pass


#: File systems whose files are views of the kernel: memory, descriptors and secrets of processes, firmware.
_OF_THE_KERNEL = frozenset(
    (
        *(
            "autofs",
            "binfmt_misc",
            "bpf",
            "cgroup",
            "cgroup2",
            "configfs",
            "debugfs",
            "devpts",
            "devtmpfs",
            "efivarfs",
        ),
        *("fusectl", "hugetlbfs", "mqueue", "nsfs", "proc", "pstore", "resctrl", "rpc_pipefs", "securityfs"),
        *("selinuxfs", "smackfs", "sysfs", "tracefs"),
    )
)


def opened(path: str) -> int:
    """A descriptor for reading a regular file that lies on a disk, in memory, or on a server.

    Links are followed, and what they lead to is judged before it is opened: opening a device alone may do something,
    and opening a FIFO waits.

    :raises OSError: when there is none, or it cannot be read.
    :raises ImageFailed: for whatever else has a path.
    """
    place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(place).st_mode):
            raise ImageFailed("is no regular file")
        if (kind := _filesystem(place)) in _OF_THE_KERNEL:
            raise ImageFailed(f"is no file with an image, but one of the kernel's ({kind})")
        return os.open(f"/proc/self/fd/{place}", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(place)


def _filesystem(descriptor: int) -> str:
    """The type of the file system that a file is on; proc(5), fdinfo and mountinfo.

    Empty for that which a chroot(2) is a part of: it is not listed.
    """
    fields = (line.split() for line in Path(f"/proc/self/fdinfo/{descriptor}").read_text().splitlines())
    mount = next(words[1] for words in fields if words[0] == "mnt_id:")
    for line in Path("/proc/self/mountinfo").read_bytes().splitlines():
        if line.startswith(f"{mount} ".encode()):
            return line.partition(b" - ")[2].split()[0].decode(errors="replace")
    return ""


class FileSource:
    """A file of this machine, ``file:///path``."""

    def __init__(self, location: Location, deadline: Deadline) -> None:
        self._deadline = deadline
        self.attempts = 1
        if location.authority not in (None, "", "localhost"):
            raise ImageFailed("file:// reaches files of this machine only")
        try:
            self._fd = opened(location.path)
        except FileNotFoundError as error:
            raise NotThere(error.strerror) from None
        except (OSError, ValueError) as error:
            raise ImageFailed(getattr(error, "strerror", str(error))) from None
        self.length: int | None = os.fstat(self._fd).st_size
        self._offset = 0

    @property
    def offset(self) -> int:
        return self._offset

    def begin(self, offset: int, length: int | None) -> None:
        if length is not None and length != self.length:
            raise ImageFailed(f"has {self.length} bytes, {length} are wanted")
        self._offset = offset

    def skip(self, offset: int) -> None:
        self._offset = offset

    def fill(self, buffer: memoryview) -> int:
        filled = 0
        while filled < len(buffer):
            count = self._read(self._offset, buffer[filled:])
            if not count:
                break
            filled += count
            self._offset += count
        if not filled and self.length != self._offset:
            raise ImageFailed(f"ended after {self._offset} of {self.length} bytes")
        return filled

    def read_at(self, offset: int, length: int) -> bytes | None:
        data = bytearray(length)
        count = self._read(offset, memoryview(data))
        if count != length:
            raise ImageFailed(f"ends before byte {offset + length}")
        return bytes(data)

    def _read(self, offset: int, buffer: memoryview) -> int:
        self._deadline.check()
        if self._fd < 0:
            raise Stopped
        try:
            return os.preadv(self._fd, [buffer], offset)
        except OSError as error:
            raise ImageFailed(f"cannot be read: {error.strerror}") from None

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
