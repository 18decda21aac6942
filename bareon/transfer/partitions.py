# SPDX-License-Identifier: Apache-2.0
"""Partition table of an image of a whole disk, GPT or MBR, read from its bytes before anything is written.

Nothing in it is believed: check sums, bounds and overlaps are looked at, and what does not agree is refused. The
backup of a GPT, at the end of the disk, is not used: an image whose table is damaged is damaged.
UEFI specification, chapter 5, has both tables.
"""

from __future__ import annotations

import struct
import uuid
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from bareon.errors import ImageFailed

#: The bytes of the image at an offset, so many; fewer where they cannot be had.
Read = Callable[[int, int], bytes]

_SECTORS = (512, 4096)
_HEADER = struct.Struct("<8sIIIIQQQQ16sQIII")
_ENTRY = struct.Struct("<16s16sQQQ72s")
_MOST = 1024  # entries; 128 is what every program makes
_LARGEST_ENTRY = 512  # bytes
_MBR_ENTRY = struct.Struct("<B3xB3xII")
_EXTENDED = (0x05, 0x0F, 0x85)
_PROTECTIVE = 0xEE
_MOST_LOGICAL = 60


@dataclass(frozen=True)
class Entry:
    """A partition: its number in the table, its place in bytes, its type.

    ``type`` is a GUID in upper case, or of an MBR such as ``0x83``. ``guid`` is its own, of an MBR the disk's
    signature and its number, as Linux writes a PARTUUID.
    """

    number: int
    start: int
    size: int
    type: str
    guid: str
    name: str = ""

    @property
    def end(self) -> int:
        return self.start + self.size


@dataclass(frozen=True)
class Table:
    """A partition table: ``gpt`` or ``dos``, the bytes of its sectors, the partitions by their numbers."""

    kind: str
    sector: int
    partitions: tuple[Entry, ...]

    @property
    def end(self) -> int:
        """The bytes that the disk has at least."""
        return max((x.end for x in self.partitions), default=0)


def read_table(read: Read, size: int | None) -> Table | None:
    """The partition table of an image, ``None`` where there is none.

    :param size: bytes of the image, ``None`` where they are not known.
    :raises ImageFailed: for one that is damaged, or cannot be read beforehand.
    """
    first = read(0, 512)
    for sector in _SECTORS:
        if read(sector, 8) == b"EFI PART":
            return _checked(Table("gpt", sector, tuple(_gpt(read, sector))), size)
    if len(first) < 512 or first[510:] != b"\x55\xaa":
        return None
    primary = [(number, *entry) for number, entry in enumerate(_mbr_entries(first), 1) if entry[0]]
    if any(kind == _PROTECTIVE for _, kind, _, _ in primary):
        raise _bad("says that a GPT follows, and there is none")
    if not primary:
        return None
    return _checked(Table("dos", 512, tuple(_dos(read, first, primary))), size)


def _gpt(read: Read, sector: int) -> Iterator[Entry]:
    head = read(sector, sector)
    if len(head) < _HEADER.size:
        raise _bad("is cut off")
    _, _, length, crc, _, place, _, first, last, _, table, count, each, entries_crc = _HEADER.unpack_from(head)
    if not _HEADER.size <= length <= len(head):
        raise _bad("is damaged: no such length of a header")
    if zlib.crc32(head[:16] + bytes(4) + head[20:length]) != crc:
        raise _bad("is damaged: the check sum of its header is wrong")
    if place != 1 or count > _MOST or each > _LARGEST_ENTRY or each < _ENTRY.size or each % 8 or table < 2:
        raise _bad("is damaged, or larger than any honest one")
    data = read(table * sector, count * each)
    if len(data) < count * each:
        raise _bad("cannot be read whole before the image is brought")
    if zlib.crc32(data) != entries_crc:
        raise _bad("is damaged: the check sum of its partitions is wrong")
    for index in range(count):
        kind, own, begin, end, _, name = _ENTRY.unpack_from(data, index * each)
        if not any(kind):
            continue
        if not first <= begin <= end <= last:
            raise _bad(f"is damaged: partition {index + 1} lies outside of the disk")
        text = name.decode("utf-16-le", errors="replace").partition("\0")[0]
        yield Entry(index + 1, begin * sector, (end - begin + 1) * sector, _guid(kind), _guid(own), text)


def _guid(data: bytes) -> str:
    return str(uuid.UUID(bytes_le=data)).upper()


def _mbr_entries(block: bytes) -> list[tuple[int, int, int]]:
    """Type, first sector and number of sectors of all four entries."""
    found = (_MBR_ENTRY.unpack_from(block, 446 + 16 * index) for index in range(4))
    return [(kind, start, count) for _, kind, start, count in found]


def _dos(read: Read, first: bytes, primary: Sequence[tuple[int, int, int, int]]) -> Iterator[Entry]:
    signature = struct.unpack_from("<I", first, 440)[0]

    def entry(number: int, kind: int, start: int, count: int) -> Entry:
        if not start or not count:
            raise _bad(f"is damaged: partition {number} has no place")
        return Entry(number, start * 512, count * 512, f"0x{kind:02x}", f"{signature:08X}-{number:02X}")

    extended = [(start, count) for _, kind, start, count in primary if kind in _EXTENDED]
    if len(extended) > 1:
        raise _bad("is damaged: it has two extended partitions")
    for number, kind, start, count in primary:
        if kind not in _EXTENDED:
            yield entry(number, kind, start, count)
    for begin, length in extended:
        for number, (kind, start, count) in enumerate(_logical(read, begin, length), 5):
            yield entry(number, kind, start, count)


def _logical(read: Read, begin: int, length: int) -> Iterator[tuple[int, int, int]]:
    """The partitions inside an extended one: each has a table of its own, which leads to that of the next."""
    seen: set[int] = set()
    table = begin
    while table not in seen:
        if len(seen) == _MOST_LOGICAL:
            raise _bad(f"has more than {_MOST_LOGICAL} logical partitions")
        seen.add(table)
        block = read(table * 512, 512)
        if len(block) < 512:
            raise _bad(
                "has logical partitions, whose tables cannot be read before the image is brought: serve it raw"
            )
        if block[510:] != b"\x55\xaa":
            raise _bad("is damaged: a logical partition has no table")
        (kind, start, count), (following, further, _), *_ = _mbr_entries(block)
        if kind:
            if start + count > begin + length - table:
                raise _bad("is damaged: a logical partition lies outside of the extended one")
            yield kind, table + start, count
        if following not in _EXTENDED:
            return
        table = begin + further
        if further >= length:
            raise _bad("is damaged: a logical partition lies outside of the extended one")
    raise _bad("is damaged: its logical partitions lead in a circle")


def _checked(table: Table, size: int | None) -> Table:
    for one, other in pairwise(sorted(table.partitions, key=lambda x: x.start)):
        if one.end > other.start:
            raise _bad(f"is damaged: partitions {one.number} and {other.number} overlap")
    if size is not None and table.end > size:
        last = max(table.partitions, key=lambda x: x.end)
        raise _bad(f"has partition {last.number} up to byte {last.end}, and the image {size} bytes: it is cut short")
    return table


def _bad(text: str) -> ImageFailed:
    return ImageFailed(f"its partition table {text}")
