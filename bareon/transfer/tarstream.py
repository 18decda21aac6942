# SPDX-License-Identifier: Apache-2.0
"""Members of a tar archive as it passes by: each is looked at before a byte of it goes on, and may be left out.

The headers are those of POSIX ustar and pax, and of GNU tar (tar(5) of libarchive has all of them). What GNU tar,
which unpacks, might read in another way than this module is refused.
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

from bareon.errors import ImageFailed
from bareon.transfer import tarsparse
from bareon.transfer.tarsparse import BLOCK, blocks

_ZEROS = bytes(BLOCK)
_MOST_AHEAD = 1 << 20  # bytes of headers of one member: names, attributes
_LONGEST = 4095  # bytes of a path; PATH_MAX of Linux, less its end
_PLAIN = (b"0", b"\0", b"7")
_FILES = (*_PLAIN, b"S")
_POSIX, _GNU = b"ustar\0", b"ustar  \0"
#: iconv of the C library drops these where the locale is C, and so does GNU tar; the others end a name there.
_NOT_READ_ALIKE = re.compile("[\0\U000e0000-\U000e007f]")
_KINDS: dict[bytes, Literal["f", "d", "L", "D", "S", "h"]] = {
    **dict.fromkeys(_FILES, "f"),
    b"5": "d",
    b"2": "L",
    b"1": "h",
    b"3": "D",
    b"4": "D",
    b"6": "S",
}
#: Records of a header for all that follow which would change what the others are.
_NOT_FOR_ALL = ("path", "linkpath", "size", "GNU.sparse.")


class Member(NamedTuple):
    """A member of an archive.

    ``path`` and ``link`` are as they stand there; ``link`` is what a symbolic link says, or another path of a
    hard-linked file. ``kind`` is a letter: ``f`` file, ``d`` folder, ``L`` symbolic link, ``h`` hard link, ``D``
    device, ``S`` fifo. ``size`` is the bytes of a file, without its holes. ``owner`` are the numbers of user and
    group, as in ``0:0``.
    """

    path: str
    kind: Literal["f", "d", "L", "h", "D", "S"]
    size: int
    owner: str
    link: str


class _Header(NamedTuple):
    """A block as a header. ``name`` and ``link`` are of this block alone."""

    kind: bytes
    magic: bytes
    name: str
    link: str
    size: int
    owner: tuple[int, int]


class Walk:
    """A walk along an archive. ``judge`` is told of each member, and says whether it goes on.

    ``members`` is how many there were; ``ended`` whether the end of the archive was seen.
    """

    def __init__(self, judge: Callable[[Member], bool]) -> None:
        self._judge = judge
        self._rest = b""
        self._held: list[bytes] = []  # headers of the member that is not known yet
        self._left = 0  # bytes of content and padding
        self._passing = True
        self._said: dict[str, str] = {}
        self._kinds: set[bytes] = set()  # of the headers in front of a member that is not known yet
        self.members = 0
        self.ended = False

    def feed(self, data: bytes | memoryview) -> Iterator[bytes | memoryview]:
        """The part of the archive that goes on.

        :param data: the next bytes of the archive, cut anywhere.
        :raises ImageFailed: for what is no archive, or one that is damaged or lies; and what ``judge`` raises.
        """
        if self._rest and not self._left:
            data, self._rest = self._rest + bytes(data), b""
        place = 0
        while place < len(data):
            if self._left:
                count = min(self._left, len(data) - place)
                if self._passing:
                    yield data[place : place + count]
                place, self._left = place + count, self._left - count
                continue
            found = self._header(data, place)
            if found is None:
                self._rest = bytes(data[place:])
                return
            if self._passing and not self._kinds:
                yield from self._held
                self._held.clear()
            place = found

    def finish(self) -> bytes:
        """The end of the archive as it goes on.

        :raises ImageFailed: when the archive was cut off.
        """
        if self._left or self._rest.strip(b"\0") or not self.ended:
            raise ImageFailed("is cut off: the archive does not end")
        return _ZEROS * 2

    def _header(self, data: bytes | memoryview, place: int) -> int | None:
        """Take the header, with all that belongs to it, at this place.

        :returns: the place behind it; ``None`` where more bytes are needed.
        """
        block = bytes(data[place : place + BLOCK])
        if len(block) < BLOCK:
            return None
        if self.ended or block == _ZEROS:
            return self._end(block, place)
        header = _parsed(block)
        if header.kind not in (b"x", b"g", b"L", b"K"):
            return self._whole(header, data, place)
        end = place + BLOCK + blocks(header.size)
        if header.size > _MOST_AHEAD:
            raise ImageFailed(f"has a header of {header.size} bytes: at most {_MOST_AHEAD} are read")
        if end > len(data):
            return None
        content = bytes(data[place + BLOCK : place + BLOCK + header.size])
        self._ahead(header.kind, content)
        self._hold(bytes(data[place:end]))
        return end

    def _whole(self, header: _Header, data: bytes | memoryview, place: int) -> int | None:
        """Take a member, with the list of its holes where it has one; as ``_header``."""
        behind = tarsparse.has_map(self._said)
        end, size = place + BLOCK, _size(header, self._said)
        if behind or header.kind == b"S":
            _check_form(header, behind)
            most = min(blocks(size), _MOST_AHEAD) if behind else _MOST_AHEAD
            found = (tarsparse.mapped if behind else tarsparse.listed)(bytes(data[place : end + most]))
            if found is None:
                if len(data) < end + most:
                    return None
                raise ImageFailed(f"has {header.name!r}, whose list of holes has no end")
            end, parts = place + found[0], found[1]
            if end > len(data):
                return None
            size -= end - place - BLOCK if behind else 0
            tarsparse.check(header.name, size, parts)
        self._hold(bytes(data[place:end]))
        self._member(header)
        self._left = min(self._left, blocks(size))
        return end

    def _end(self, block: bytes, place: int) -> int:
        if block != _ZEROS:
            raise ImageFailed("has something behind the end of the archive")
        if self._kinds:
            raise ImageFailed("is damaged: a header has no member")
        self.ended, self._passing = True, False
        return place + BLOCK

    def _ahead(self, kind: bytes, content: bytes) -> None:
        """Take what stands in a header of its own in front of a member."""
        if kind in self._kinds or {kind, *self._kinds} >= {b"x", b"L"} or {kind, *self._kinds} >= {b"x", b"K"}:
            raise ImageFailed("has two headers that may name one member")
        self._kinds.add(kind)
        if kind in (b"L", b"K"):
            self._said["path" if kind == b"L" else "linkpath"] = _text(content.split(b"\0")[0])
            return
        records = dict(_records(content))
        if kind == b"x":
            self._said |= records
        elif wrong := next((key for key in records if key.startswith(_NOT_FOR_ALL)), None):
            raise ImageFailed(f"has a header that sets {wrong} of all members")

    def _hold(self, header: bytes) -> None:
        self._held.append(header)
        if sum(map(len, self._held)) > 2 * _MOST_AHEAD:
            raise ImageFailed("has headers without end")

    def _let_go(self) -> None:
        """Leave the headers of a member out, but for what they say of all that follow."""
        self._held = [x for x in self._held if x[156:157] == b"g"]

    def _member(self, header: _Header) -> None:
        said, self._said = self._said, {}
        self._kinds.clear()
        if header.kind == b"V":  # a label
            self._passing, self._left = False, 0
            self._let_go()
            return
        name = said.get("GNU.sparse.name", said.get("path", header.name))
        link = said.get("linkpath", header.link)
        path = _believed(name.rstrip("/") or name)
        if header.kind not in _KINDS:
            raise ImageFailed(f"{path!r} is of a kind that is not known ({_text(header.kind)!r})")
        size = _size(header, said)
        folder = header.kind in _PLAIN and name.endswith("/")  # as before there was a kind for them
        letter = "d" if folder else _KINDS[header.kind]
        if letter != "f" and size and header.kind != b"1":  # of a hard link it is the file's, and nothing follows
            raise ImageFailed(f"{path!r} has {size} bytes of content, and is no file")
        owner = f"{said.get('uid', header.owner[0])}:{said.get('gid', header.owner[1])}"
        member = Member(path, letter, size if letter == "f" else 0, owner, _believed(link))
        self.members += 1
        self._passing = self._judge(member)
        if not self._passing:
            self._let_go()
        self._left = blocks(member.size)


def begins(head: bytes) -> bool:
    """True if these first bytes, 512 or more, are those of an archive."""
    try:
        _parsed(head[:BLOCK])
    except ImageFailed:
        return False
    return True


def _parsed(block: bytes) -> _Header:
    try:
        info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except (tarfile.HeaderError, ValueError):
        raise ImageFailed("is damaged, or no tar archive: a header makes no sense") from None
    if info.size < 0:
        raise ImageFailed("is damaged: a member has a negative size")
    tarsparse.number(block[148:156])
    name, magic = _until_zero(block[:100]), block[257:265]
    # Others have times there, or anything.
    prefix = _until_zero(block[345:500]) if magic.startswith(_POSIX) else b""
    return _Header(
        block[156:157],
        magic,
        _text(prefix + b"/" + name if prefix else name),
        _text(_until_zero(block[157:257])),
        tarsparse.number(block[124:136]),
        (info.uid, info.gid),
    )


def _until_zero(field: bytes) -> bytes:
    return field.partition(b"\0")[0]


def _size(header: _Header, said: dict[str, str]) -> int:
    if "size" not in said:
        return header.size
    text = said["size"]
    if not text.isascii() or not text.isdigit() or len(text) > 19 or int(text) > tarsparse.LARGEST:
        raise ImageFailed(f"has a member of the size {text[:40]!r}")
    return int(text)


def _check_form(header: _Header, behind: bool) -> None:
    """See that a list of holes stands where GNU tar looks for it, too."""
    if behind != (header.kind in _PLAIN) or not header.magic.startswith(_POSIX if behind else _GNU):
        raise ImageFailed(f"has {header.name!r}, a file with holes in a form that makes no sense")


def _believed(name: str) -> str:
    """A name that all programs read alike.

    :raises ImageFailed: for any other.
    """
    if len(name) > _LONGEST:
        raise ImageFailed(f"has a name of {len(name)} bytes: no system takes more than {_LONGEST}")
    if _NOT_READ_ALIKE.search(name):
        raise ImageFailed(f"has {name!r}, a name with characters that programs leave out")
    return name


def _records(content: bytes) -> Iterator[tuple[str, str]]:
    """The records of an extended header; pax of POSIX.1-2017."""
    place = 0
    while place < len(content):
        length, blank, _ = content[place : place + 16].partition(b" ")
        end = place + int(length) if blank and length.isdigit() else place
        record = content[place + len(length) + 1 : end]
        key, equals, value = record[:-1].partition(b"=")
        if not equals or record[-1:] != b"\n" or end > len(content) or b"\0" in key or key[:1] in b" \t":
            raise ImageFailed("is damaged: an extended header makes no sense")
        yield _text(key), _text(value)
        place = end


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")
