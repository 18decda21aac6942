# SPDX-License-Identifier: Apache-2.0
"""EFI programs: the parts of a PE file that Secure Boot looks at.

Microsoft's "PE Format" has the structures, and its "Windows Authenticode Portable Executable Signature Format" what
is hashed of them; EDK2 does it as here. The bytes are a stranger's: whatever they say, nothing is read outside of
them, and what is no such file is a ``ValueError``.
"""

from __future__ import annotations

import hashlib
import io
import struct
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

LARGEST = 64 << 20  # bytes of a program that is looked at
_MOST_SECTIONS = 96
_MOST_NAMES = 64 << 10  # bytes of the table of long names
_SECTION = 40  # bytes of an entry of the section table
_PE32, _PE32_PLUS = 0x10B, 0x20B
_PKCS = (0x0200, 2)  # revision and type of a signature in PKCS #7
_SECURITY = 4  # number of the data directory that tells where signatures are


@dataclass(frozen=True)
class Program:
    """An EFI program: its sections by name, and its signatures in PKCS #7, in their order.

    ``hashed`` are the pieces of it that a signature is about.
    """

    sections: dict[str, bytes] = field(repr=False)
    signatures: tuple[bytes, ...] = field(repr=False)
    hashed: tuple[bytes, ...] = field(repr=False)

    def digest(self, algorithm: str) -> bytes:
        """Its hash, as signatures and lists of hashes have it."""
        total = hashlib.new(algorithm)
        for piece in self.hashed:
            total.update(piece)
        return total.digest()


def program(data: bytes) -> Program:
    """The EFI program in a file.

    :raises ValueError: saying why it is none.
    """
    try:
        return _program(data)
    except struct.error:
        raise ValueError("an EFI program that is cut off") from None


def _program(data: bytes) -> Program:
    if data[:2] != b"MZ":
        raise ValueError("no EFI program")
    (start,) = struct.unpack_from("<I", data, 0x3C)
    if data[start : start + 4] != b"PE\0\0":
        raise ValueError("no EFI program")
    count, optional = struct.unpack_from("<H", data, start + 6) + struct.unpack_from("<H", data, start + 20)
    head = start + 24
    (magic,) = struct.unpack_from("<H", data, head)
    if magic not in (_PE32, _PE32_PLUS) or count > _MOST_SECTIONS:
        raise ValueError("no EFI program")
    directories = head + (112 if magic == _PE32_PLUS else 96)
    (known,) = struct.unpack_from("<I", data, directories - 4)
    (headers,) = struct.unpack_from("<I", data, head + 60)
    security = directories + 8 * _SECURITY
    place, size = struct.unpack_from("<II", data, security) if known > _SECURITY else (0, 0)
    if not security + 8 <= headers <= len(data) or place + size > len(data) or (size and place < headers):
        raise ValueError("an EFI program whose headers contradict its size")
    table = [struct.unpack_from("<8sIIII", data, head + optional + _SECTION * i) for i in range(count)]
    strings = _strings(data, start)
    pieces = [data[: head + 64], data[head + 68 : security], data[security + 8 : headers]]
    total = headers
    sections: dict[str, bytes] = {}
    for name, virtual, _, length, offset in sorted(table, key=lambda entry: entry[4]):
        if not length:
            continue
        if offset + length > len(data):
            raise ValueError("an EFI program that is cut off")
        pieces.append(data[offset : offset + length])
        total += length
        if total > len(data):  # sections that overlap, so that few bytes would be hashed many times
            raise ValueError("an EFI program whose sections contradict its size")
        sections.setdefault(_long_name(name, strings), pieces[-1][: virtual if 0 < virtual < length else length])
    # By the sum of what was hashed, as firmware does, and not by where the last section ends.
    pieces.append(data[total : len(data) - size])
    return Program(sections, tuple(_signatures(data[place : place + size])), tuple(pieces))


def machine(file: IO[bytes]) -> int | None:
    """The processor that an EFI program is for, as "PE Format" numbers them; ``None`` for what is none."""
    head = file.read(0x40)
    if len(head) < 0x40 or head[:2] != b"MZ":
        return None
    file.seek(int.from_bytes(head[0x3C:], "little"))
    found = file.read(6)
    return int.from_bytes(found[4:], "little") if len(found) == 6 and found[:4] == b"PE\0\0" else None


def sections(file: IO[bytes], at_most: int) -> dict[str, bytes]:
    """The beginning of each section of an EFI program of any size, by name, which has no more than eight characters.

    :param at_most: bytes that are read of each.
    :raises ValueError: saying why it is none.
    """
    found = {}
    for name, offset, size in _places(file):
        file.seek(offset)
        found[name] = file.read(min(size, at_most))
    return found


def section(file: IO[bytes], name: str) -> IO[bytes] | None:
    """The content of a section of an EFI program, as a file from its beginning to its end; ``None`` without it.

    :raises ValueError: saying why it is no such program.
    """
    for there, offset, size in _places(file):
        if there == name:
            file.seek(offset)
            return io.BufferedReader(_Part(file, size))
    return None


class _Part(io.RawIOBase):
    """So many bytes of a file, from where that is."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file, self._left = file, size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        view = memoryview(buffer)
        data = self._file.read(min(len(view), self._left))
        view[: len(data)] = data
        self._left -= len(data)
        return len(data)


def _places(file: IO[bytes]) -> list[tuple[str, int, int]]:
    """The sections of an EFI program: name, place and size, in bytes."""
    head = file.read(_MOST_NAMES)
    try:
        (start,) = struct.unpack_from("<I", head, 0x3C)
        if head[:2] != b"MZ" or head[start : start + 4] != b"PE\0\0":
            raise ValueError("no EFI program")
        count, optional = struct.unpack_from("<H", head, start + 6) + struct.unpack_from("<H", head, start + 20)
        places = range(start + 24 + optional, start + 24 + optional + _SECTION * min(count, _MOST_SECTIONS), _SECTION)
        table = [struct.unpack_from("<8sIIII", head, place) for place in places]
    except struct.error:
        raise ValueError("an EFI program that is cut off") from None
    return [
        (name.rstrip(b"\0").decode("ascii", "replace"), offset, virtual if 0 < virtual < length else length)
        for name, virtual, _, length, offset in table
    ]


def _strings(data: bytes, start: int) -> bytes:
    """The table of long names, behind that of symbols; empty where there is none."""
    place, count = struct.unpack_from("<II", data, start + 12)
    place += 18 * count
    size = int.from_bytes(data[place : place + 4], "little")
    return data[place : place + min(size, _MOST_NAMES)] if count or place else b""


def _long_name(name: bytes, strings: bytes) -> str:
    """The name of a section: up to eight characters, or a slash and the place of a longer one."""
    name = name.rstrip(b"\0")
    if name[:1] == b"/" and name[1:].isdigit():
        place = int(name[1:])
        name = strings[place : strings.find(b"\0", place)] if place else name
    return name.decode("ascii", errors="replace")


def _signatures(table: bytes) -> list[bytes]:
    found = []
    place = 0
    while place + 8 < len(table):
        length, revision, kind = struct.unpack_from("<IHH", table, place)
        if not 8 <= length <= len(table) - place:
            break
        if (revision, kind) == _PKCS:
            found.append(table[place + 8 : place + length])
        place += -(-length // 8) * 8
    return found
