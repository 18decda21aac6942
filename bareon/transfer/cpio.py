# SPDX-License-Identifier: Apache-2.0
"""Names in an initramfs: archives of cpio(5) in its form newc, one after the other, the last ones compressed.

Documentation/driver-api/early-userspace/buffer-format.rst of Linux. Content is passed over, and nothing is unpacked.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import IO

from bareon.errors import ImageFailed
from bareon.sizes import GIB, MIB
from bareon.transfer import lz4
from bareon.transfer.decode import Decoding
from bareon.transfer.format import Format

_MAGIC = (b"070701", b"070702")
_HEADER = 110  # bytes: the magic, and 13 numbers of 8 hexadecimal digits
_SIZE, _NAME = 54, 94  # where the sizes of the content and of the name stand
#: Nothing of what conversions take besides, as blanks: who else reads it would find members at other places.
_NUMBER = re.compile(rb"[0-9A-Fa-f]{8}")
_END = b"TRAILER!!!"
_LONGEST = 4096  # bytes of a name; PATH_MAX
_MOST = 1 << 18  # names
_PARTS = 1 << 10  # that are compressed, each on its own: a few bytes may be one
_TOGETHER = 64 * MIB  # bytes of all names
_LARGEST = 4 * GIB  # bytes, decoded
_FORMATS: tuple[tuple[bytes, Format], ...] = (
    (b"\x1f\x8b", "gzip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\xfd7zXZ\0", "xz"),
    (b"BZh", "bzip2"),
    (b"\x5d\0\0", "lzma"),
)
_LZO = b"\x89LZO"


class _Bytes:
    """Bytes that come in pieces."""

    def __init__(self, pieces: Iterator[bytes], before: int = 0, named: int = 0) -> None:
        self._pieces = pieces
        self._piece = memoryview(b"")
        self.taken = before
        self.named = named

    def more(self) -> bool:
        """Whether there are any left."""
        while not self._piece:
            piece = next(self._pieces, None)
            if piece is None:
                return False
            self._piece = memoryview(piece)
            if self.taken + len(piece) > _LARGEST:
                raise ValueError(f"it holds more than {_LARGEST // GIB} GiB")
        return True

    def take(self, count: int) -> bytes:
        """The next bytes, fewer at the end."""
        found = bytearray()
        while count > len(found) and self.more():
            found += self._next(count - len(found))
        return bytes(found)

    def skip(self, count: int) -> None:
        """Pass bytes over.

        :raises ValueError: where there are fewer.
        """
        while count and self.more():
            count -= len(self._next(count))
        if count:
            raise ValueError("it is cut off")

    def pad(self, length: int) -> None:
        """Pass over what fills a length up to a multiple of four, which may be left out at the very end."""
        if self.more():
            self.skip(-length % 4)

    def skip_zeros(self) -> None:
        """Pass zeros over."""
        while self.more() and self._piece[0] == 0:
            near = bytes(self._piece[:_LONGEST])  # there may be few zeros in each of many places
            self._next(len(near) - len(near.lstrip(b"\0")))

    def rest(self, first: bytes) -> Iterator[memoryview]:
        """All that is left, behind bytes that were taken."""
        yield memoryview(first)
        while self.more():
            yield self._next(len(self._piece))

    def put_back(self, data: bytes) -> None:
        """Have bytes that were taken come again, before all others."""
        self._piece = memoryview(data + bytes(self._piece))
        self.taken -= len(data)

    def _next(self, count: int) -> memoryview:
        found, self._piece = self._piece[:count], self._piece[count:]
        self.taken += len(found)
        return found


def names(file: IO[bytes]) -> frozenset[str]:
    """The names of all members, as they are written.

    :raises ValueError: with the reason, where they cannot be read, or there are none.
    """
    found: set[str] = set()
    source = _Bytes(iter(lambda: file.read(MIB), b""))
    unpacked = parts = 0  # bytes, of all that is compressed
    while (magic := _archives(source, found)) is not None:
        parts += 1
        if parts > _PARTS:
            raise ValueError(f"it has more than {_PARTS} parts that are compressed")
        inner = _Bytes(_plain(magic, source), unpacked, source.named)
        try:
            if _archives(inner, found) is not None:
                raise ValueError("there is something else than cpio in it")
        except ImageFailed as error:
            raise ValueError(f"it {error}") from None
        unpacked, source.named = inner.taken, inner.named
    if not found:
        raise ValueError("there is nothing in it")
    return frozenset(found)


def _plain(magic: bytes, source: _Bytes) -> Iterator[bytes]:
    """What is compressed at a place, behind the first bytes; what is behind it is put back."""
    if magic.startswith(lz4.MAGIC):
        source.put_back(magic[len(lz4.MAGIC) :])
        yield from lz4.plain(source.take, source.put_back)
        return
    form = next((form for start, form in _FORMATS if start.startswith(magic[: len(start)])), None)
    if form is None:
        raise ValueError(f"its form is {'lzo' if magic.startswith(_LZO) else 'none that is known'}")
    decoding = Decoding(form, first_alone=True)
    yield from decoding.run(source.rest(magic), lambda: MIB)
    source.put_back(decoding.left)


def _archives(source: _Bytes, found: set[str]) -> bytes | None:
    """Read the archives at a place; the first bytes of what is none, ``None`` at the end."""
    while True:
        source.skip_zeros()
        magic = source.take(len(_MAGIC[0]))
        if not magic:
            return None
        if magic not in _MAGIC:
            return magic
        while _member(magic, source, found):
            magic = source.take(len(magic))
            if magic not in _MAGIC:
                raise ValueError("a member of it has no header")


def _member(magic: bytes, source: _Bytes, found: set[str]) -> bool:
    """Read a member behind the magic of its header; whether it is not the last one."""
    header = magic + source.take(_HEADER - len(magic))
    size, length = (_number(header, place) for place in (_SIZE, _NAME))
    if not 0 < length <= _LONGEST:
        raise ValueError("a member of it has no name that can be")
    name = source.take(length).split(b"\0")[0]
    source.pad(_HEADER + length)
    if name == _END:
        return False
    source.skip(size)
    source.pad(size)
    source.named += length
    found.add(name.decode(errors="replace").removeprefix("./").removeprefix("/"))
    if len(found) > _MOST or source.named > _TOGETHER:
        raise ValueError(f"it has more than {_MOST} members, or longer names than can be")
    return True


def _number(header: bytes, place: int) -> int:
    digits = header[place : place + 8]
    if len(digits) < 8:
        raise ValueError("it is cut off")
    if not _NUMBER.fullmatch(digits):
        raise ValueError("a member of it has a size that is no number")
    return int(digits, 16)
