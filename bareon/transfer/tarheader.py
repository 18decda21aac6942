# SPDX-License-Identifier: Apache-2.0
"""A block of a tar archive as a header; POSIX ustar, and GNU tar's own (tar(5) of libarchive has both)."""

from __future__ import annotations

import functools
import re
import struct
import zlib
from typing import NamedTuple

from bareon.errors import ImageFailed

BLOCK = 512
LARGEST = (1 << 63) - 1
POSIX, GNU = b"ustar\0", b"ustar  \0"
# Name, mode and owners, size, time, checksum, kind, link, magic, names of owners, numbers of a device, prefix.
_FIELDS = struct.Struct("100s 24s 12s 12s 8s c 100s 8s 64x 16s 155s 12x")
_OCTAL = re.compile(rb" *([0-7]+) *(?:\0.*)?", re.DOTALL)
_OCTAL_OR_NONE = re.compile(rb"[ \t]*([0-7]*)[ \t]*(?:\0.*)?", re.DOTALL)
_SUMMED_AT_ONCE = 256  # bytes, of which Adler-32 still has the sum itself
_REPEATED = 4096  # fields whose numbers are kept: members are alike in most


class Header(NamedTuple):
    """A block as a header. ``name`` and ``link`` are of this block alone."""

    kind: bytes
    magic: bytes
    name: str
    link: str
    size: int
    owner: tuple[int, int]


def parsed(block: bytes) -> Header:
    """The header in a block.

    :raises ImageFailed: where there is none, or one that programs read in different ways.
    """
    if len(block) < BLOCK:
        raise senseless()
    name, owned, size, time, checksum, kind, link, magic, device, prefix = _FIELDS.unpack(block)
    if number(checksum) not in _sums(block):
        raise senseless()
    if size[:1] == b"\xff":
        raise ImageFailed("is damaged: a member has a negative size")
    _, user, group = _each(owned)
    _each(device)
    _loose(time)
    # Others than those of POSIX have times there, or anything.
    before = prefix.partition(b"\0")[0] if magic.startswith(POSIX) else b""
    name = name.partition(b"\0")[0]
    return Header(
        kind,
        magic,
        text(before + b"/" + name if before else name),
        text(link.partition(b"\0")[0]),
        number(size),
        (user, group),
    )


@functools.lru_cache(_REPEATED)
def number(field: bytes) -> int:
    """A number of a header, in a form that all programs read alike.

    :raises ImageFailed: for any other.
    """
    if match := _OCTAL.fullmatch(field):
        return int(match[1], 8)
    value = int.from_bytes(field[1:])
    if field[:1] != b"\x80" or value > LARGEST:
        raise senseless()
    return value


@functools.lru_cache(_REPEATED)
def _loose(field: bytes) -> int:
    """A number that decides nothing here: one that may be missing, or negative."""
    if match := _OCTAL_OR_NONE.fullmatch(field):
        return int(match[1] or b"0", 8)
    if field[:1] not in (b"\x80", b"\xff"):
        raise senseless()
    return int.from_bytes(field[1:]) - (1 << 8 * len(field) - 8 if field[:1] == b"\xff" else 0)


@functools.lru_cache(_REPEATED)
def _each(fields: bytes) -> list[int]:
    """The numbers of fields of eight bytes each, as of :func:`_loose`."""
    return [_loose(fields[place : place + 8]) for place in range(0, len(fields), 8)]


def _sums(block: bytes) -> tuple[int, ...]:
    """The sums that a block may have as its checksum: of its bytes, and, as some programs had it, with a sign.

    The checksum itself counts as spaces.
    """
    # Adler-32 has the sum of few bytes in its lower half, plus one, in a tenth of the time that sum() takes.
    first, second = zlib.adler32(block[:_SUMMED_AT_ONCE]), zlib.adler32(block[_SUMMED_AT_ONCE:])
    whole = (first & 0xFFFF) + (second & 0xFFFF) - 2 - sum(block[148:156]) + 8 * ord(" ")
    if block.isascii():
        return (whole,)
    return whole, whole - 256 * sum(x > 127 for x in block[:148] + block[156:])


def blocks(size: int) -> int:
    """The bytes that content of so many takes in an archive."""
    return -(-size // BLOCK) * BLOCK


def text(name: bytes) -> str:
    """A name, or what else is said of a member, as Python has names of files."""
    return name.decode("utf-8", "surrogateescape")


def senseless() -> ImageFailed:
    """What is raised for a header that is none."""
    return ImageFailed("is damaged, or no tar archive: a header makes no sense")
