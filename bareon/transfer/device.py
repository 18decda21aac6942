# SPDX-License-Identifier: Apache-2.0
"""The block device that an image is written onto, past the page cache, its first and last MiB at the very end.

A failed image must never look like a file system, nor like a member of an array, whose metadata may lie at the end.
So the first and the last MiB that may be written are zero from the first moment and get their bytes only by
:meth:`Device.commit`. Runs of zeros go to the kernel as such (BLKZEROOUT, see ``block/ioctl.c``): a device that can
write zeros by itself does it at once, for the others the kernel writes one page of zeros over and over. Discarding
would be no proof of zeros.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import stat
import struct
from types import TracebackType

from bareon.errors import ActionFailed
from bareon.sizes import MIB, mib
from bareon.tools import block

_BLKSSZGET = 0x1268
_PAGE = 4096


class _Kept:
    """The bytes from ``start`` to ``end`` of the device, kept until all others are found right."""

    def __init__(self, start: int, end: int) -> None:
        self.start = start
        self.end = end
        self._buffer = memoryview(mmap.mmap(-1, MIB))
        self._fill = 0

    def take(self, offset: int, data: memoryview) -> None:
        """Keep those of the bytes at ``offset`` that belong here."""
        first, last = max(offset, self.start), min(offset + len(data), self.end)
        if first < last:
            self._buffer[first - self.start : last - self.start] = data[first - offset : last - offset]
            self._fill = max(self._fill, last - self.start)

    def content(self) -> memoryview:
        return self._buffer[: self._fill]


class Device:
    """A block device, or a file for tests, of which the first ``limit`` bytes may be written.

    :raises ActionFailed: by all methods, naming the device.
    """

    def __init__(self, path: str, limit: int) -> None:
        self.path = path
        self.limit = limit
        self.written = 0
        self._head = _Kept(0, min(MIB, limit))
        self._tail = _Kept(limit, limit)
        self._run = (0, 0)
        self._zeros = memoryview(mmap.mmap(-1, MIB))
        self._fd = self._opened()
        try:
            self._block = stat.S_ISBLK(os.fstat(self._fd).st_mode)
            if self._block:  # a file may end anywhere before
                self._tail = _Kept(max(self._head.end, limit - MIB), limit)
            self._unit = max(512, struct.unpack("i", self._asked(_BLKSSZGET))[0]) if self._block else _PAGE
            if self._block and (size := os.lseek(self._fd, 0, os.SEEK_END)) < limit:
                raise ActionFailed(f"{path}: has {mib(size)}, {mib(limit)} were expected")
        except BaseException:
            self.close()
            raise

    def _opened(self) -> int:
        try:
            return block.open_direct(self.path, os.O_RDWR)
        except OSError as error:
            raise ActionFailed(f"{self.path}: cannot be opened for writing: {error.strerror}") from None

    def _asked(self, request: int) -> bytes:
        return fcntl.ioctl(self._fd, request, bytes(4))

    @property
    def head(self) -> memoryview:
        """What was kept of the first MiB so far."""
        return self._head.content()

    def begin(self) -> None:
        """Zero the first and the last MiB, durably."""
        for kept in (self._head, self._tail):
            self._write(kept.start, self._zeros[: kept.end - kept.start])
        self.written = 0
        self.flush()

    def write(self, offset: int, data: memoryview) -> None:
        """Write bytes that lie within the limit. Those of the first and the last MiB are kept until ``commit``."""
        assert offset + len(data) <= self.limit
        for kept in (self._head, self._tail):
            kept.take(offset, data)
        start, end = max(offset, self._head.end), min(offset + len(data), self._tail.start)
        if start < end:
            self._write(start, data[start - offset : end - offset])

    def zero(self, offset: int, length: int) -> None:
        """Make bytes zero, at the latest by ``flush``."""
        assert offset + length <= self.limit
        # What is kept is zero where nothing else was written.
        start, end = max(offset, self._head.end), min(offset + length, self._tail.start)
        if start >= end:
            return
        if self._run[1] == start and end - self._run[0] <= block.AT_ONCE:
            self._run = (self._run[0], end)
        else:
            self._zero_run()
            self._run = (start, end)

    def _zero_run(self) -> None:
        (start, end), self._run = self._run, (0, 0)
        if self._block:
            first, last = -(-start // self._unit) * self._unit, end // self._unit * self._unit
            if first < last and self._zeroed(first, last - first):
                self._fill(start, first)
                start = last
        self._fill(start, end)

    def _zeroed(self, start: int, length: int) -> bool:
        while length:
            part = min(length, block.AT_ONCE)
            try:
                block.zero_range(self._fd, start, part)
            except OSError as error:
                if error.errno in (errno.EOPNOTSUPP, errno.ENOTTY):
                    return False
                raise self._failed(error, start) from None
            start, length = start + part, length - part
        return True

    def _fill(self, start: int, end: int) -> None:
        while start < end:
            part = min(MIB - start % MIB, end - start)
            self._write(start, self._zeros[:part])
            start += part

    def _write(self, offset: int, data: memoryview) -> None:
        direct = 0 if offset % self._unit else len(data) // self._unit * self._unit
        done = self._some(offset, data[:direct])
        if done < len(data):
            # O_DIRECT takes whole blocks at aligned addresses only; an image's end may be neither.
            flags = fcntl.fcntl(self._fd, fcntl.F_GETFL)
            fcntl.fcntl(self._fd, fcntl.F_SETFL, flags & ~os.O_DIRECT)
            try:
                self._some(offset + done, data[done:])
            finally:
                fcntl.fcntl(self._fd, fcntl.F_SETFL, flags)

    def _some(self, offset: int, data: memoryview) -> int:
        """Write as much as O_DIRECT takes, or all of it; how much that was."""
        done = 0
        while done < len(data):
            try:
                done += os.pwrite(self._fd, data[done:], offset + done)
            except OSError as error:
                if error.errno == errno.EINVAL and self._direct():
                    break
                raise self._failed(error, offset + done) from None
        self.written += done
        return done

    def _direct(self) -> bool:
        return bool(fcntl.fcntl(self._fd, fcntl.F_GETFL) & os.O_DIRECT)

    def flush(self) -> None:
        """Return when all that was written is durable."""
        self._zero_run()
        try:
            os.fdatasync(self._fd)
        except OSError as error:
            raise self._failed(error, None) from None

    def commit(self) -> None:
        """Write what was kept, durably, after all the rest is; the first MiB last."""
        for kept in (self._tail, self._head):
            self.flush()
            self._write(kept.start, kept.content())
        self.flush()

    def _failed(self, error: OSError, offset: int | None) -> ActionFailed:
        place = "" if offset is None else f" at byte {offset}"
        return ActionFailed(f"{self.path}: cannot be written{place}: {error.strerror}")

    def close(self) -> None:
        os.close(self._fd)

    def __enter__(self) -> Device:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
