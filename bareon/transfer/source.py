# SPDX-License-Identifier: Apache-2.0
"""Where an image's bytes come from: a file or a server, behind one interface."""

from __future__ import annotations

import os
import stat
from typing import Protocol
from urllib.parse import unquote, urlsplit

from bareon.errors import ImageFailed
from bareon.model.settings import TransferSettings
from bareon.text import shown
from bareon.transfer.deadline import Deadline, Stopped


class NotThere(ImageFailed):
    """There is nothing at the URL."""


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

    def __init__(self, url: str, deadline: Deadline) -> None:
        self._url = shown(url)
        self._deadline = deadline
        self.attempts = 1
        parts = urlsplit(url)
        if parts.netloc not in ("", "localhost"):
            raise ImageFailed(f"{self._url}: file:// reaches files of this machine only")
        try:
            # Non-blocking, since the open of a FIFO would wait for its writer.
            self._fd = os.open(unquote(parts.path), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError as error:
            raise NotThere(f"{self._url}: {error.strerror}") from None
        except (OSError, ValueError) as error:
            raise ImageFailed(f"{self._url}: {getattr(error, 'strerror', error)}") from None
        self.length: int | None = None
        try:
            if stat.S_ISREG(mode := os.fstat(self._fd).st_mode) or stat.S_ISBLK(mode):
                self.length = os.lseek(self._fd, 0, os.SEEK_END)
        except OSError:
            pass  # a file of /proc, for instance
        if self.length is None:
            self.close()
            raise ImageFailed(f"{self._url}: is neither a file nor a block device that could hold an image")
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
            raise ImageFailed(f"{self._url}: ended after {self._offset} of {self.length} bytes")
        return filled

    def read_at(self, offset: int, length: int) -> bytes | None:
        data = bytearray(length)
        count = self._read(offset, memoryview(data))
        if count != length:
            raise ImageFailed(f"{self._url}: ends before byte {offset + length}")
        return bytes(data)

    def _read(self, offset: int, buffer: memoryview) -> int:
        self._deadline.check()
        if self._fd < 0:
            raise Stopped
        try:
            return os.preadv(self._fd, [buffer], offset)
        except OSError as error:
            raise ImageFailed(f"{self._url}: cannot be read: {error.strerror}") from None

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def open_source(url: str, settings: TransferSettings, deadline: Deadline) -> Source:
    """The source of a URL. Raises ImageFailed where nothing can come from it."""
    try:
        scheme = urlsplit(url).scheme
    except ValueError:
        raise ImageFailed(f"{shown(url)}: is not a URL that can be fetched") from None
    if scheme == "file":
        return FileSource(url, deadline)
    # requests and what it brings take longer to import than the rest of bareon.
    from bareon.transfer.resume import HttpSource

    if scheme in ("http", "https"):
        return HttpSource(url, settings, deadline)
    if scheme == "swift":
        from bareon.transfer.swift import Account

        return HttpSource(url, settings, deadline, Account(url, settings).entry)
    raise ImageFailed(f"{shown(url)}: images come by http, https, file and swift only")
