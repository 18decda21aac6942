# SPDX-License-Identifier: Apache-2.0
"""Sources of an image's bytes: a file or a server, behind one interface."""

from __future__ import annotations

import os
import stat
from typing import Protocol

from bareon.errors import ImageFailed
from bareon.model.location import Location
from bareon.transfer.deadline import Deadline, Stopped
from bareon.transfer.failure import NotThere


class Source(Protocol):
    """The bytes of an image as they are served.

    ``length`` is known once a byte was read, ``None`` where the server does not tell. ``attempts`` counts
    connections.
    """

    length: int | None
    attempts: int

    def fill(self, buffer: memoryview) -> int:
        """Read on until the buffer is full or the image ends; 0 is the end. Raises ImageFailed and Stopped."""

    def read_at(self, offset: int, length: int) -> bytes | None:
        """Exactly these bytes, beside the stream; ``None`` where the server gives no parts."""

    def close(self) -> None:
        """End it, from any thread; a read under way ends soon."""


class FileSource:
    """A file of this machine, ``file:///path``."""

    def __init__(self, location: Location, deadline: Deadline) -> None:
        self._deadline = deadline
        self.attempts = 1
        if location.authority not in (None, "", "localhost"):
            raise ImageFailed("file:// reaches files of this machine only")
        try:
            # Non-blocking, since the open of a FIFO would wait for its writer.
            self._fd = os.open(location.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError as error:
            raise NotThere(error.strerror) from None
        except (OSError, ValueError) as error:
            raise ImageFailed(getattr(error, "strerror", str(error))) from None
        self.length: int | None = None
        try:
            if stat.S_ISREG(mode := os.fstat(self._fd).st_mode) or stat.S_ISBLK(mode):
                self.length = os.lseek(self._fd, 0, os.SEEK_END)
        except OSError:
            pass  # a file of /proc, for instance
        if self.length is None:
            self.close()
            raise ImageFailed("is neither a file nor a block device that could hold an image")
        self._offset = 0

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
