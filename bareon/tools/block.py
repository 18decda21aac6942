# SPDX-License-Identifier: Apache-2.0
"""Ways of the block layer to empty a device, and marks that show whether one was emptied; ``block/ioctl.c`` of Linux.

All of it goes past the page cache, which would show what was written and not what the device has.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import mmap
import os
import random
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bareon.errors import ActionFailed

_BLKDISCARD = 0x1277
_BLKZEROOUT = 0x127F
_BLKFLSBUF = 0x1261
MARK = 4096  # bytes; what any device takes and gives without changing more
_SECTOR = 512
_MARKS = 1024
AT_ONCE = 256 << 20  # bytes; a call for more could not be interrupted for long where the kernel writes the zeros


@dataclass(frozen=True)
class Marks:
    """Places (bytes) on a device, each with the random bytes that were written to it."""

    by_place: dict[int, bytes]

    def __repr__(self) -> str:
        return f"Marks({len(self.by_place)})"


def open_direct(path: str, flags: int) -> int:
    """A descriptor of a device that nobody else uses, past the page cache.

    :raises OSError: when it cannot be opened.
    """
    flags |= os.O_EXCL | os.O_CLOEXEC
    try:
        return os.open(path, flags | os.O_DIRECT)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        # A file, on a file system without O_DIRECT; all block devices have it.
        return os.open(path, flags)


def discards(device: str) -> bool:
    """Whether the device takes discards (TRIM, UNMAP, deallocate), as the kernel says in sysfs."""
    place = Path("/sys/class/block", Path(device).name, "queue/discard_max_bytes")
    with contextlib.suppress(OSError, ValueError):
        return int(place.read_text()) > 0
    return False


def discard(device: str, size: int, told: Callable[[int], None]) -> None:
    """Discard all of a device of ``size`` bytes; ``told`` gets the bytes done so far, and may raise.

    :raises ActionFailed: when the kernel or the device does not do it.
    """
    _in_slices(device, size, told, discard_range, "discard")


def zero(device: str, size: int, told: Callable[[int], None]) -> None:
    """Write zeros to all of a device of ``size`` bytes; ``told`` gets the bytes done so far, and may raise.

    :raises ActionFailed: when the kernel or the device does not do it.
    """
    _in_slices(device, size, told, zero_range, "write zeros to")


def discard_range(fd: int, start: int, length: int) -> None:
    """Discard bytes of the device that is open as ``fd``.

    :raises OSError: when the kernel or the device does not do it.
    """
    fcntl.ioctl(fd, _BLKDISCARD, struct.pack("QQ", start, length))


def zero_range(fd: int, start: int, length: int) -> None:
    """Have the kernel write zeros to the device that is open as ``fd``; the device may be able to do that by itself.

    :raises OSError: when the kernel or the device does not do it.
    """
    fcntl.ioctl(fd, _BLKZEROOUT, struct.pack("QQ", start, length))


def _in_slices(
    device: str, size: int, told: Callable[[int], None], done: Callable[[int, int, int], None], what: str
) -> None:
    with _opened(device, os.O_RDWR) as fd:
        for start in range(0, size, AT_ONCE):
            length = min(AT_ONCE, size - start)
            try:
                done(fd, start, length)
            except OSError as error:
                raise ActionFailed(f"the kernel cannot {what} {device} at byte {start}: {error.strerror}") from None
            told(start + length)
        os.fsync(fd)


def mark(device: str, size: int) -> Marks:
    """Write random bytes to places all over a device of ``size`` bytes, its first and last among them.

    :raises ActionFailed: when it cannot be written, or does not give back what was written.
    """
    marks = Marks({place: os.urandom(MARK) for place in places(size)})
    with _opened(device, os.O_RDWR) as fd, mmap.mmap(-1, MARK) as buffer:
        for place, content in marks.by_place.items():
            buffer[:] = content
            if _done(device, place, lambda at=place: os.pwrite(fd, buffer, at)) != MARK:  # type: ignore[misc]
                raise ActionFailed(f"{device} cannot be written at byte {place}")
        os.fsync(fd)
    if read(device, marks) != marks.by_place:
        raise ActionFailed(f"{device} does not give back what was just written to it")
    return marks


def places(size: int) -> list[int]:
    """Places for marks: the first and the last there can be, and one in each of so many equal parts between them."""
    last = size // MARK - 1
    count = min(_MARKS, last)
    bounds = [1 + (last - 1) * i // count for i in range(count + 1)] if count > 0 else []
    between = [random.SystemRandom().randrange(a, b) for a, b in itertools.pairwise(bounds) if a < b]
    # The end of a disk need not be a multiple of theirs.
    return list(dict.fromkeys((0, *(number * MARK for number in between), max(size - MARK, 0))))


def read(device: str, marks: Marks) -> dict[int, bytes]:
    """What is now at the places of the marks.

    :raises ActionFailed: when it cannot be read.
    """
    found = {}
    with _opened(device, os.O_RDONLY) as fd, mmap.mmap(-1, MARK) as buffer:
        for place in marks.by_place:
            if _done(device, place, lambda at=place: os.preadv(fd, [buffer], at)) != MARK:  # type: ignore[misc]
                raise ActionFailed(f"{device} cannot be read at byte {place}")
            found[place] = buffer[:]
    return found


def left(marks: Marks, found: dict[int, bytes], *, zeros: bool) -> list[int]:
    """The places at which a mark is left, if only a sector of it; with ``zeros`` those at which anything is."""
    if zeros:
        return [place for place, content in found.items() if content.strip(b"\0")]
    return [place for place, content in found.items() if _shares(content, marks.by_place[place])]


def _shares(content: bytes, mark_: bytes) -> bool:
    return any(content[i : i + _SECTOR] == mark_[i : i + _SECTOR] for i in range(0, MARK, _SECTOR))


def forget(device: str) -> None:
    """Have the kernel forget what it remembers of a device's content, which changed behind its back.

    :raises ActionFailed: when it cannot be opened.
    """
    with _opened(device, os.O_RDONLY) as fd, contextlib.suppress(OSError):
        fcntl.ioctl(fd, _BLKFLSBUF, 0)


@contextlib.contextmanager
def _opened(device: str, flags: int) -> Iterator[int]:
    try:
        fd = open_direct(device, flags)
    except OSError as error:
        raise ActionFailed(f"{device} cannot be opened: {error.strerror}") from None
    try:
        yield fd
    finally:
        os.close(fd)


def _done(device: str, place: int, call: Callable[[], int]) -> int:
    try:
        return call()
    except OSError as error:
        raise ActionFailed(f"{device}, at byte {place}: {error.strerror}") from None
